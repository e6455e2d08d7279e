"""An answer is written in one piece, and its call leaves nothing for the garbage collector."""

import gc
import json
import socket
import struct
import sys
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp.server.lowlevel import Server
from starlette.types import Message, Receive, Scope, Send
from tests.http.http_server import LEGACY, MODERN, request
from tests.http.wire import GET, PATIENCE_S, served

from snowledger_server._http._caller import HEADERS
from snowledger_server._http._posts import posts

DATA_SEGMENTS_IN = 152
"""Where ``struct tcp_info`` of linux/tcp.h has how many segments with data have come."""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel how many packets came")
@pytest.mark.parametrize("more", [b"", b"connection: close\r\n"], ids=["kept", "closed"])
async def test_an_answer_comes_in_one_packet(more: bytes) -> None:
    async with served() as connect:
        for size in (1, 2, 7_000):
            wire = await connect()
            await wire.send(GET[:-2].replace(b"/ ", b"/%d " % size, 1) + more + b"\r\n")
            assert await wire.answer() == (200, b"x" * size)
            info = wire.writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            assert struct.unpack_from("I", info, DATA_SEGMENTS_IN) == (1,)


async def test_headers_do_not_wait_for_a_body_that_is_not_there_yet() -> None:
    go_on = anyio.Event()

    async def slowly(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body", "body": b"y"})

    async with served(slowly) as connect:
        wire = await connect()
        await wire.send(GET)
        with anyio.fail_after(PATIENCE_S):
            assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            go_on.set()
            assert await wire.reader.readexactly(2) == b"xy"


@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_a_call_leaves_nothing_for_the_garbage_collector(era: str) -> None:
    async def list_tools(*_: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[])

    app = posts(Server("noop", version="0", on_list_tools=list_tools))
    headers, body = request("tools/list", era)
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    pairs.append((b"content-type", b"application/json"))
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def call() -> None:
        await app({"type": "http", "method": "POST", "headers": pairs, HEADERS: dict(pairs)}, receive, send)

    await call()  # what is made once
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            await call()
        assert gc.collect() < 100
    finally:
        gc.enable()
    assert statuses == [200] * 101
