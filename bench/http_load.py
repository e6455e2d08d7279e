"""Many keep-alive connections that call at a steady rate, whether or not the server keeps up (an open loop).

Requests are put together beforehand, for the load runs on the same cores as the server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

AGREED = b"HTTP/1.1 200 "
FAILED = b'"isError":true'


class Load(NamedTuple):
    """What one run measured."""

    latencies_ms: list[float]
    """From when a call was due to the last byte of its answer."""
    failures: int
    """Answers that were none, or that a tool gave as an error."""


class Connection(asyncio.Protocol):
    """One keep-alive connection with one call at a time."""

    def __init__(self, load: OpenLoop) -> None:
        self._load = load
        self._due = 0.0
        self._received = bytearray()
        self._expected = -1
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def call(self, request: bytes, due: float) -> None:
        assert self._transport is not None
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._expected < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end]).lower()
            self._expected = end + 4 + int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        if len(self._received) >= self._expected:
            good = self._received.startswith(AGREED) and FAILED not in self._received[-self._expected :]
            self._received.clear()
            self._expected = -1
            self._load.answered(self, self._due, good=good)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(exc)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class OpenLoop:
    """The connections of all clients, and the calls that wait for one."""

    def __init__(self, port: int, clients: int) -> None:
        self._port = port
        self._clients = clients
        self._free: deque[Connection] = deque()
        self._all: list[Connection] = []
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._loop = asyncio.get_running_loop()
        self._latencies: list[float] = []
        self._failures = 0
        self._outstanding = 0
        self._settled = asyncio.Event()
        self._closing = False

    async def connect(self) -> None:
        for _ in range(self._clients):
            _, connection = await self._loop.create_connection(lambda: Connection(self), "127.0.0.1", self._port)
            self._all.append(connection)
        self._free.extend(self._all)

    async def run(self, requests: Iterator[bytes], rate: float, seconds: float) -> Load:
        """Call at the rate for so long, and wait for what is still running."""
        self._latencies, self._failures, self._outstanding = [], 0, 0
        started = self._loop.time()
        calls = int(rate * seconds)
        for number in range(calls):
            due = started + number / rate
            wait = due - self._loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            elif number % 16 == 0:
                await asyncio.sleep(0)  # behind the time, answers must still be read
            if self._free:
                self._free.popleft().call(next(requests), due)
            else:
                self._waiting.append((next(requests), due))
        self._outstanding = calls - len(self._latencies)
        if self._outstanding:
            self._settled.clear()
            await self._settled.wait()
        return Load(self._latencies, self._failures)

    def answered(self, connection: Connection, due: float, *, good: bool) -> None:
        self._latencies.append((self._loop.time() - due) * 1000)
        self._failures += not good
        self._outstanding -= 1
        if self._outstanding == 0:
            self._settled.set()
        if self._waiting:
            connection.call(*self._waiting.popleft())
        else:
            self._free.append(connection)

    def lost(self, error: Exception | None) -> None:
        if not self._closing:
            raise ConnectionError("the server closed a connection") from error

    def close(self) -> None:
        self._closing = True
        for connection in self._all:
            connection.close()
