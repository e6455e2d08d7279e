"""One write for each answer: uvicorn makes one for its headers and another for its body."""

from __future__ import annotations

import asyncio
from typing import Any


class OneWrite:
    """A transport whose writes wait for each other: until the answer is complete, or for one turn of the event loop.

    For asyncio each write is a call of the kernel, a packet, and with TLS a record of its own.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """All but what is here is as the transport has it."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write it soon."""
        if data:
            if not self._waiting:
                asyncio.get_running_loop().call_soon(self.flush)
            self._waiting.append(data)

    def flush(self) -> None:
        """Write now what waits."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._transport.writelines(waiting)

    def close(self) -> None:
        """Close, after what waits."""
        self.flush()
        self._transport.close()
