"""Connections that are slow, idle or too many are ended; the others do not notice."""

import gc
import socket
import struct
from contextlib import suppress

import anyio
import pytest
from starlette.types import Receive, Scope, Send
from tests.http.wire import GET, POST, echo, served

from snowledger_server._http import _connections, _serve
from snowledger_server._http._connections import GuardedConnection
from snowledger_server._http._refusal import Refusal


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same deadlines, thirty times as fast."""
    for name, seconds in (("HEADER_S", 0.3), ("BODY_S", 0.6), ("UNREAD_S", 0.6), ("LINGER_S", 0.2), ("LOOK_S", 0.05)):
        monkeypatch.setattr(_connections, name, seconds)
    monkeypatch.setattr(_serve, "IDLE_S", 1)


@pytest.mark.parametrize(
    "sent",
    [b"", b"P", b"POST / HTTP/1.1\r\nhost: loc", GET[:-1], b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 50],
)
async def test_a_connection_whose_headers_do_not_come_is_ended(sent: bytes) -> None:
    async with served() as connect:
        wire = await connect()
        await wire.send(sent)
        assert 0.2 < await wire.end() < 3


async def test_dribbling_does_not_put_the_deadline_off() -> None:
    async with served() as connect:
        wire = await connect()
        begun = anyio.current_time()
        with suppress(ConnectionError):
            await wire.send(GET[:-2])
            while not wire.reader.at_eof() and anyio.current_time() < begun + 5:
                await wire.send(b"x: y\r\n")
                await anyio.sleep(0.02)
        assert 0.2 < anyio.current_time() - begun < 3


@pytest.mark.parametrize(
    "sent",
    [
        POST % 100 + b"part",
        GET + POST % 100 + b"part",  # with the answer to another request between
        b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n",
    ],
)
async def test_a_request_whose_body_does_not_come_is_ended(sent: bytes) -> None:
    async with served() as connect:
        wire = await connect()
        await wire.send(sent)
        assert 0.4 < await wire.end() < 4


async def test_an_idle_connection_is_ended_later_than_a_slow_one() -> None:
    async with served() as connect:
        wire = await connect()
        for _ in range(2):
            await wire.send(GET)
            assert await wire.answer() == (200, b"xx")
        assert 0.9 < await wire.end() < 4


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a busy machine keeps, but for idle connections."""
    for name in ("HEADER_S", "BODY_S", "UNREAD_S", "LINGER_S"):
        monkeypatch.setattr(_connections, name, 15)


async def careless(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that refuses a POST without reading it, and takes its time for anything else."""
    if scope["method"] == "POST":
        await Refusal(401, "No.").send(send)
    else:
        await anyio.sleep(1.5)  # longer than an idle connection may
        await echo(scope, receive, send)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("body", [[b"12345"], [b"12", b"345"]])
async def test_a_connection_is_idle_after_the_rest_of_a_refused_request(body: list[bytes]) -> None:
    async with served(careless) as connect:
        wire = await connect()
        for _ in range(2):
            await wire.send(POST % 5)
            assert (await wire.answer())[0] == 401
            for part in body:
                await wire.send(part)
                await anyio.sleep(0.05)
        assert 0.5 < await wire.end() < 10


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_connection_with_a_request_is_not_idle_after_a_refused_one(at_once: bool) -> None:
    async with served(careless) as connect:
        wire = await connect()
        await wire.send(POST % 5)
        assert (await wire.answer())[0] == 401
        await wire.send(b"12345" + GET if at_once else b"12345")
        if not at_once:
            await anyio.sleep(0.2)
            await wire.send(GET)
        assert await wire.answer() == (200, b"xx")
        assert 0.5 < await wire.end() < 10


async def test_the_rest_of_a_request_that_is_refused_late_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connections, "BODY_S", 15)
    monkeypatch.setattr(_connections, "LINGER_S", 1)
    refused = anyio.Event()

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            await receive()
            await anyio.sleep(1.3)
            await Refusal(413, "No.").send(send)
            refused.set()
        else:
            await echo(scope, receive, send)

    async with served(refuse) as connect:
        wire = await connect()
        await wire.send(POST % 100 + b"x" * 50)
        await refused.wait()
        await anyio.sleep(0.3)
        await wire.send(b"x" * 50)  # as who writes all before it reads
        assert await wire.answer() == (413, b"No.\n")
        await wire.send(GET)
        assert await wire.answer() == (200, b"xx")


async def test_a_refused_request_that_goes_on_is_ended_all_the_same() -> None:
    async with served(careless) as connect:
        wire = await connect()
        await wire.send(POST % 1_000_000)
        assert (await wire.answer())[0] == 401
        begun = anyio.current_time()
        with suppress(ConnectionError):
            while not wire.reader.at_eof() and anyio.current_time() < begun + 5:
                await wire.send(b"x")
                await anyio.sleep(0.02)
        assert 0.1 < anyio.current_time() - begun < 3


async def test_who_does_not_read_the_answer_is_cut_off() -> None:
    async with served() as connect:
        wire = await connect()
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(GET.replace(b"/ ", b"/20000000 ", 1))
        await anyio.sleep(2)
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await wire.answer())[0] == 0


async def test_answers_that_nobody_reads_have_a_limit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connections, "UNREAD_S", 20)
    monkeypatch.setattr(_connections, "MAX_UNREAD", 30_000_000)
    async with served() as connect:
        wires = [await connect() for _ in range(2)]
        for wire in wires:
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await wire.send(GET.replace(b"/ ", b"/20000000 ", 1))
        await anyio.sleep(0.3)
        for wire in wires:
            wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert sorted([(await wire.answer())[0] for wire in wires]) == [0, 200]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("at_once", [True, False])
async def test_no_request_is_begun_while_its_client_does_not_read(at_once: bool) -> None:
    sizes = [20_000_000, 7, 20_000_001, 8, 9]
    requests = [GET.replace(b"/ ", b"/%d " % size, 1) for size in sizes]
    begun: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        await echo(scope, receive, send)

    async with served(app) as connect:
        wire = await connect()
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for some in [requests] if at_once else [requests[:1], requests[1:2], requests[2:]]:
            await wire.send(b"".join(some))
            await anyio.sleep(0.3)
        await anyio.sleep(1)  # longer than an idle connection may
        assert begun == ["/20000000"]
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert [len((await wire.answer())[1]) for _ in sizes] == sizes
        assert begun == [f"/{size}" for size in sizes]
        assert await wire.end() < 10


async def test_a_request_that_waits_for_its_client_to_read_puts_no_deadline_off() -> None:
    async with served() as connect:
        wire = await connect()
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(GET.replace(b"/ ", b"/20000000 ", 1))
        await anyio.sleep(0.1)
        await wire.send(GET + GET[:-1])
        await anyio.sleep(2)
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await wire.answer())[0] == 0


@pytest.mark.parametrize("rest", [GET[:-1], POST % 100 + b"part"], ids=["headers", "body"])
async def test_a_request_that_was_not_looked_at_has_its_deadlines_afterwards(
    monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    monkeypatch.setattr(_connections, "UNREAD_S", 15)
    monkeypatch.setattr(_serve, "IDLE_S", 60)
    async with served() as connect:
        wire = await connect()
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(GET.replace(b"/ ", b"/20000000 ", 1))
        await anyio.sleep(0.1)
        await wire.send(rest)
        await anyio.sleep(1)  # which is not the request's fault
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await wire.answer())[0] == 200
        assert 0.1 < await wire.end() < 5


async def test_one_connection_too_many_is_told_so_and_there_is_room_when_another_goes() -> None:
    async with served(most=4) as connect:
        wires = [await connect() for _ in range(2)]  # half of them: all come from one address
        for wire in wires:
            await wire.send(GET)
            assert await wire.answer() == (200, b"xx")
        refused = await connect()
        assert await refused.answer() == (503, b"Too many connections.\n")
        assert await refused.end() < 3
        await wires[0].close()
        with anyio.fail_after(10):
            while True:
                again = await connect()
                await again.send(GET)
                status, _ = await again.answer()
                await again.close()
                if status == 200:
                    break


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no host
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 300_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 40_000,
        b"GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n",
    ],
    ids=["tls", "no host", "two hosts", "two lengths", "negative", "large header", "large path", "blank in a name"],
)
async def test_what_is_no_http_request_is_a_400_and_the_end(sent: bytes) -> None:
    async with served() as connect:
        wire = await connect()
        await wire.send(sent)
        assert (await wire.answer())[0] == 400


@pytest.mark.parametrize("method", [b"POST", b"HEAD"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_request_that_turns_out_to_be_none_gets_one_answer_and_the_end(
    at_once: bool, method: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
        await Refusal(401, "No.").send(send)

    head, body = method + b" / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n", b"no length\r\n"
    async with served(refuse) as connect:
        wire = await connect()
        await wire.send(head + body if at_once else head)
        head = await wire.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 " if at_once else b"HTTP/1.1 401 ")
        if not at_once:
            await wire.send(body)
        assert await wire.end() < 3
    assert not caplog.records


async def test_nothing_is_kept_of_a_connection_that_was_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_serve, "IDLE_S", 600)

    def kept() -> int:
        gc.collect()
        return sum(isinstance(one, GuardedConnection) for one in gc.get_objects())

    before = kept()
    async with served() as connect:
        for _ in range(5):
            wire = await connect()
            await wire.send(GET)
            assert await wire.answer() == (200, b"xx")
            raw = wire.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await wire.close()
        with anyio.fail_after(20):  # far sooner than an idle connection is ended
            while kept() > before:  # noqa: ASYNC110 - the garbage collector sets no event
                await anyio.sleep(0.02)
