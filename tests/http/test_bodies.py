"""A huge body is refused before it is read, and memory stays flat."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress

import httpx2
import psutil
import pytest
from starlette.types import Receive, Scope, Send
from tests.http.http_server import LEGACY, MODERN, HttpServer, call, request
from tests.http.wire import Wire, served
from tests.server.server_samples import EVENT

from snowledger_server._http import _app, _bodies
from snowledger_server._http._bodies import MAX_BODY, Bodies
from snowledger_server._http._caller import Client
from snowledger_server._http._hosts import Hosts
from snowledger_server._http._rate import Rates
from snowledger_server._http._refusal import Refusal
from snowledger_server._identity import Identity


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_a_body_over_the_limit_is_a_413_and_the_largest_event_is_none(
    server: HttpServer, client: httpx2.Client, era: str
) -> None:
    features = {"text": "\x01" * 43_000}  # 256 KiB with every character escaped, and in the request once more
    assert (
        call(client, server.mcp, era, "log_event", {**EVENT, "feature_json": features}).json()["result"]["isError"]
        is False
    )
    headers, _ = request("tools/list", era)
    assert client.post(server.mcp, headers=headers, content=b" " * (MAX_BODY + 1)).status_code == 413
    with socket.create_connection((server.host, server.port)) as declared:
        declared.sendall(
            b"POST /mcp HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 1%s\r\n\r\n"
            % (b"0" * 15)
        )
        assert declared.recv(100).startswith(b"HTTP/1.1 413 ")


def test_large_headers_are_refused_also_when_they_come_in_one_piece(server: HttpServer, client: httpx2.Client) -> None:
    headers, body = request("tools/list", MODERN)
    assert client.post(server.mcp, headers={**headers, "x": "y" * 30_000}, json=body).status_code == 200
    # How it comes is up to the kernel: in pieces it is a 400.
    assert client.post(server.mcp, headers={**headers, "x": "y" * 33_000}, json=body).status_code in {400, 431}


def test_an_endless_chunked_body_is_a_413_and_memory_stays_flat(server: HttpServer, client: httpx2.Client) -> None:
    process = psutil.Process(server.process.pid)
    headers, _ = request("tools/list", MODERN)
    assert client.post(server.mcp, headers=headers, content=_endless(4)).status_code == 413
    before = process.memory_info().rss
    for _ in range(3):
        with httpx2.Client() as another, suppress(httpx2.WriteError):  # it need not be heard out
            assert another.post(server.mcp, headers=headers, content=_endless(64)).status_code == 413
    assert process.memory_info().rss - before < 8 * 2**20
    assert call(client, server.mcp, MODERN, "get_context", {}).status_code == 200


def _endless(mebibytes: int) -> Iterator[bytes]:
    for _ in range(16 * mebibytes):
        yield b" " * 65536


async def test_all_bodies_together_have_a_limit_and_none_is_counted_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bodies, "MAX_BODY", 100)
    monkeypatch.setattr(_bodies, "SMALL_BODY", 20)
    bodies = Bodies(300)

    async def read(*pieces: int, gone: bool = False, customer: str = "acme") -> bytearray | Refusal | None:
        messages = [
            {"type": "http.request", "body": b"x" * size, "more_body": gone or number < len(pieces)}
            for number, size in enumerate(pieces, 1)
        ] + [{"type": "http.disconnect"}]

        async def receive() -> dict[str, object]:
            return messages.pop(0)

        return await bodies.read(customer, {}, receive)

    for _ in range(3):
        held = await read(60, 40)
        assert isinstance(held, bytearray)
        assert len(held) == 100
        for refused, status in ((await read(30, 30), 503), (await read(40, 61), 413), (await read(101), 413)):
            assert isinstance(refused, Refusal)
            assert refused.status == status
        assert await read(30, gone=True) is None
        another = await read(50)
        assert isinstance(another, bytearray)
        assert isinstance(await read(20), bytearray), "a small one is never refused"
        bodies.release("acme", bytearray(20))
        theirs = await read(100, customer="beta")
        assert isinstance(theirs, bytearray), "one customer has half of the room"
        for customer, body in (("acme", held), ("acme", another), ("beta", theirs)):
            bodies.release(customer, body)


async def test_who_sends_bodies_that_do_not_end_takes_no_call_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_app, "MAX_IN_FLIGHT", 4)

    async def serve(_scope: Scope, receive: Receive, send: Send) -> None:
        await Refusal(200, (await receive())["body"].decode()).send(send)

    def who(headers: Mapping[bytes, bytes]) -> Client:
        return Client(Identity(headers[b"x-who"].decode()), "")

    async def post(customer: bytes, body: bytes, size: int) -> Wire:
        wire = await connect()
        await wire.send(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\nx-who: %s\r\n" % customer)
        await wire.send(b"content-length: %d\r\n\r\n%s" % (size, body))
        return wire

    app = _app.App(serve, Hosts((), ()), who, Rates(1000), lambda _status: None)
    async with served(app) as connect:
        endless = [await post(b"acme", b"x", 2) for _ in range(2)]
        assert (await (await post(b"acme", b"y", 1)).answer())[0] == 503
        assert await (await post(b"beta", b"z", 1)).answer() == (200, b"z\n")
        for wire in endless:
            await wire.send(b"x")
            assert await wire.answer() == (200, b"xx\n")
        assert await (await post(b"acme", b"y", 1)).answer() == (200, b"y\n")
