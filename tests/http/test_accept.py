"""Connections are counted from the moment they are accepted, whether they speak TLS, HTTP or nothing."""

import resource
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest
from anyio import to_thread
from starlette.types import Receive, Scope, Send
from tests.http.http_server import HttpServer
from tests.http.test_address import certificate
from tests.http.wire import GET, POST, Wire, echo, served

from snowledger.systemd_unit import OTHER_FILES
from snowledger_server._http import _accept, _connections
from snowledger_server._http._connections import origin
from snowledger_server._http._descriptors import OTHERS
from snowledger_server._http._tls import tls_context


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LINGER_S", 0.2), ("LOOK_S", 0.05), ("UNREAD_S", 0.5)):
        monkeypatch.setattr(_connections, name, seconds)
    monkeypatch.setattr(_accept, "RETRY_S", 0.1)


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of the server, and of its clients."""
    cert, key = certificate(tmp_path)
    context = tls_context(cert, key)
    assert context is not None
    return context, ssl.create_default_context(cafile=str(cert))


Connect: TypeAlias = Callable[[], Awaitable[Wire]]


async def until_served(connect: Connect) -> None:
    with anyio.fail_after(10):
        while await status(connect) != 200:  # noqa: ASYNC110 - nothing here hears of a free place
            await anyio.sleep(0.02)


async def status(connect: Connect) -> int:
    try:
        wire = await connect()
    except (ConnectionError, ssl.SSLError):
        return 0
    await wire.send(GET)
    code, _ = await wire.answer()
    await wire.close()
    return code


async def test_who_does_not_agree_on_tls_is_counted_all_the_same(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with served(most=4, tls=tls[0]) as connect:
        silent = [await connect() for _ in range(2)]  # half of them: all come from one address
        assert await status(lambda: connect(tls[1])) == 0
        assert await (await connect()).end() < 3
        await silent[0].close()
        await until_served(lambda: connect(tls[1]))


async def test_a_handshake_that_fails_leaves_room_for_another(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with served(most=4, tls=tls[0]) as connect:
        for _ in range(10):
            wire = await connect()
            await wire.send(GET)
            await wire.end()
        await until_served(lambda: connect(tls[1]))


async def test_a_handshake_has_a_deadline(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_accept, "HANDSHAKE_S", 0.3)
    async with served(tls=tls[0]) as connect:
        assert 0.2 < await (await connect()).end() < 3


async def test_who_is_refused_gets_the_answer_though_it_goes_on_sending() -> None:
    def post(address: tuple[str, int]) -> bytes:
        with socket.create_connection(address) as client:
            for piece in (POST % 30_000, *[b"x" * 10_000] * 3):
                client.sendall(piece)  # fails once the connection was reset
                time.sleep(0.01)  # in several packets, as over a network
            return client.recv(12)

    async with served(most=2) as connect:
        address = (await connect()).writer.get_extra_info("peername")
        assert await to_thread.run_sync(post, address) == b"HTTP/1.1 503"


async def test_of_many_that_are_refused_only_some_are_kept_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connections, "LINGER_S", 60)
    async with served(most=2) as connect:
        first = await connect()
        before = files()
        for _ in range(_connections.MAX_LINGERING + 30):
            await (await connect()).close()
        assert files() - before <= _connections.MAX_LINGERING + 1
        await first.close()


def files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_without_file_descriptors_nobody_is_accepted_for_a_moment_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as connect:
        address = (await connect()).writer.get_extra_info("peername")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with ExitStack() as cleanup:
            client, last = (cleanup.enter_context(socket.socket()) for _ in range(2))
            cleanup.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1, hard))
            client.connect(address)
            with anyio.fail_after(5):
                while "no connection can be accepted" not in caplog.text:  # noqa: ASYNC110 - a log sets no event
                    await anyio.sleep(0.02)
        assert len(caplog.records) <= 3
        await until_served(connect)


async def test_an_answer_that_is_not_read_is_noticed_with_tls_too(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async with served(tls=tls[0]) as connect:
        wire = await connect(tls[1])
        wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(GET.replace(b"/ ", b"/150000 ", 1) * 3)  # asyncio's limit with TLS is 512 KiB
        await anyio.sleep(1.5)
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert [(await wire.answer())[0] for _ in range(3)][-1] == 0


async def test_no_request_is_begun_while_its_client_does_not_read_with_tls_either(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connections, "UNREAD_S", 15)
    begun: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        await echo(scope, receive, send)

    sizes = [2_000_000, 2_000_001, 2_000_002, 7]
    async with served(app, tls=tls[0]) as connect:
        wire = await connect(tls[1])
        wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for size in sizes:
            await wire.send(GET.replace(b"/ ", b"/%d " % size, 1))
            await anyio.sleep(0.2)
        assert len(begun) < 3, "the first one does not count"
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert [len((await wire.answer())[1]) for _ in sizes] == sizes
        await wire.send(GET)
        assert await wire.answer() == (200, b"xx")


def test_the_end_is_prompt_while_many_do_not_agree_on_tls(start: Callable[..., HttpServer], tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    server = start("--tls-cert", str(cert), "--tls-key", str(key), SNOWLEDGER_HTTP_MAX_CONNECTIONS="60")
    silent = [socket.create_connection((server.host, server.port)) for _ in range(100)]
    server.said("70 connections refused: 30 are open")
    assert server.end() < 5
    for one in silent:
        one.close()


def test_of_ipv6_addresses_a_whole_network_counts_as_one() -> None:
    one = origin(("2001:db8:1:2::1", 1, 0, 0))
    assert one == origin(("2001:db8:1:2:ffff::7", 2, 0, 0))
    assert one != origin(("2001:db8:1:3::1", 1, 0, 0))
    assert origin(("fe80::1%lo", 1, 0, 1)) == origin(("fe80::2", 1, 0, 1))
    assert origin(("::ffff:192.0.2.1", 1, 0, 0)) == origin(("192.0.2.1", 1))
    assert origin(("192.0.2.1", 1)) != origin(("192.0.2.2", 1))
    assert origin("") == origin("/run/a.sock")


def test_a_unit_allows_for_all_files_that_the_server_keeps_free() -> None:
    assert OTHER_FILES >= OTHERS
