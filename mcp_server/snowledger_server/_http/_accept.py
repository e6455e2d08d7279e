"""Connections from the moment they are accepted, so that none is there that is not counted.

asyncio's own servers accept as many as wait before the first of them is heard of, and tell of none that has not agreed
on TLS yet.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from ._connections import LINGER_S, GuardedConnection

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Sequence

    from anyio.abc import TaskGroup

    from ._connections import Connections

log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0
"""For TLS to be agreed on."""

BATCH = 64
"""Connections accepted in a row, which takes some milliseconds, before all others have their turn."""

RETRY_S = 1.0
"""After there was no file descriptor for one more connection."""


class Acceptor:
    """Accepts on all listeners."""

    def __init__(
        self, connections: Connections, make: Callable[[], GuardedConnection], tls: ssl.SSLContext | None
    ) -> None:
        self._connections = connections
        self._make = make
        self._tls = tls
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()

    async def run(self, listeners: Sequence[socket.socket]) -> None:
        """Accept until ``close``, and close the listeners."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    for listener in listeners:
                        listener.setblocking(False)  # noqa: FBT003 - the interface
                        tasks.start_soon(self._accept, listener, tasks, name="http accept")
        finally:
            for listener in listeners:
                listener.close()
            self._ended.set()

    async def close(self) -> None:
        """Accept no more, and let go of who has not agreed on TLS yet."""
        self._scope.cancel()
        await self._ended.wait()

    async def _accept(self, listener: socket.socket, tasks: TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        for number in itertools.count(1):
            try:
                peer, address = await loop.sock_accept(listener)
            except ConnectionError:
                continue  # it is gone again
            except OSError as error:
                log.warning("no connection can be accepted for now: %s", error.strerror)
                await anyio.sleep(RETRY_S)
                continue
            self._take(peer, address, tasks)
            if number % BATCH == 0:
                await anyio.lowlevel.checkpoint()

    def _take(self, peer: socket.socket, address: object, tasks: TaskGroup) -> None:
        if not self._connections.has_room(address):
            self._connections.refuse(peer, readable=self._tls is None)
            return
        connection = self._make()
        self._connections.add(connection, address)
        tasks.start_soon(self._connect, connection, peer, name="http connection")

    async def _connect(self, connection: GuardedConnection, peer: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                peer,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_S,
                ssl_shutdown_timeout=None if self._tls is None else LINGER_S,
            )
        except OSError as error:
            log.debug("a client is gone, or speaks no TLS: %s", error)
        finally:
            if connection.transport is None:
                self._connections.discard(connection)
