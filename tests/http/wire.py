"""HTTP by hand: what no proper client sends."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send

from snowledger_server._http._address import HttpAddress, listen
from snowledger_server._http._serve import serve_http

PATIENCE_S = 20


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, tls: ssl.SSLContext | None = None) -> "Wire":
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=tls and "localhost"))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next response; 0 when the connection ends instead."""
        try:
            with anyio.fail_after(PATIENCE_S):
                head = await self.reader.readuntil(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
                body = await self.reader.readexactly(int(fields.get(b"content-length", 0)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, b""
        return int(head.split(b" ")[1]), body

    async def end(self) -> float:
        """After how many seconds the server has closed the connection."""
        begun = anyio.current_time()
        with anyio.fail_after(PATIENCE_S), contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        return anyio.current_time() - begun

    async def close(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that reads the body and answers with as many bytes as the path says."""
    while (await receive()).get("more_body"):
        pass
    body = b"x" * int(scope["path"][1:] or 2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def served(
    app: ASGIApp = echo, most: int = 100, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Callable[..., Awaitable[Wire]]]:
    """The transport alone, in this process; gives what connects to it."""
    listeners = listen(HttpAddress("127.0.0.1", 0))
    if tls is not None:  # little of an answer is in the kernel's hands
        listeners[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    started = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def serve() -> None:
            await serve_http(app, listeners, most, tls, started=started.set, leaving=lambda: None)

        tasks.start_soon(serve)
        await started.wait()
        port = int(listeners[0].getsockname()[1])
        wires: list[Wire] = []

        async def connect(client: ssl.SSLContext | None = None) -> Wire:
            wires.append(await Wire.open(port, client))
            return wires[-1]

        try:
            yield connect
        finally:
            for wire in wires:
                await wire.close()
            tasks.cancel_scope.cancel()


GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
POST: Any = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
