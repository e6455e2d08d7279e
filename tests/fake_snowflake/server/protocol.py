"""HTTP connections that can be cut."""

import asyncio
import socket
import struct
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_open: dict[object, asyncio.Transport] = {}


class CuttableProtocol(H11Protocol):
    """uvicorn's protocol; it knows the connection of every client."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        _open[transport.get_extra_info("peername")] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        _open.pop(self.transport.get_extra_info("peername"), None)
        super().connection_lost(exc)


def reset_connection(client: object) -> None:
    """Cut a client's connection without a reply."""
    transport = _open.pop(client)
    # Without lingering the system sends a reset, as a router does that has lost its memory.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
