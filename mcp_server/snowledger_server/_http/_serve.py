"""uvicorn, from the first connection to an orderly end.

The end: no new connections, idle ones are closed, and running calls have ``DRAIN_S``; calls that wait for something
answer at once. A second signal cuts that short.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

import anyio
import uvicorn

from ._accept import Acceptor
from ._app import MAX_HEADERS
from ._connections import IDLE_S, Connections, GuardedConnection
from ._descriptors import room_for

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterator, Sequence

    from anyio.abc import TaskGroup, TaskStatus
    from starlette.types import ASGIApp

log = logging.getLogger(__name__)

DRAIN_S = 3
"""Longest wait for running calls at the end, in seconds. The promise is an end within 5 s, and the rest is left for
flushing and sealing the queue."""

CANCEL_S = 0.5
"""For calls that were cancelled to clean up."""


async def serve_http(
    app: ASGIApp,
    listeners: Sequence[socket.socket],
    most_connections: int,
    tls: ssl.SSLContext | None,
    *,
    started: Callable[[], None],
    leaving: Callable[[], None],
    ended: Callable[[str], None] = lambda _reason: None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    ``started`` is called when connections are accepted, ``leaving`` once when the end begins, and
    ``ended`` of each connection that is sent away (see ``Connections``).
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # its warnings tell of each client's mistakes
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=DRAIN_S,
        h11_max_incomplete_event_size=MAX_HEADERS,
    )
    connections = Connections(room_for(most_connections), ended)
    logging.getLogger("uvicorn.error").addFilter(_not_cancelled)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connections.watch, name="http connections")
        server = _Server(config, connections, tls, tasks, started)
        if sys.platform != "win32":
            await tasks.start(_watch_signals, server, leaving, name="http signals")
        try:
            await server.serve(list(listeners))
            await _settle(server)
        finally:
            server.abandon()
        tasks.cancel_scope.cancel()


def _not_cancelled(record: logging.LogRecord) -> bool:
    """Whether it tells of more than a call that was cancelled at the end; that is said once for all of them."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class _Server(uvicorn.Server):
    """uvicorn's, with guarded connections; signals are watched by somebody else."""

    def __init__(
        self,
        config: uvicorn.Config,
        connections: Connections,
        tls: ssl.SSLContext | None,
        tasks: TaskGroup,
        started: Callable[[], None],
    ) -> None:
        super().__init__(config)
        make = partial(GuardedConnection, connections, config, server_state=self.server_state, app_state={})
        self._acceptor = Acceptor(connections, make, tls)
        self.servers = []  # uvicorn's; the acceptor is in their place
        self._tasks = tasks
        self._on_start = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: uvicorn would end the process by the signal that it got."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await self.lifespan.startup()
        self._tasks.start_soon(self._acceptor.run, sockets or (), name="http acceptor")
        self.started = True
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and wait for what runs."""
        await self._acceptor.close()
        await super().shutdown(sockets)

    def abandon(self) -> None:
        """End what is open at once."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()


async def _watch_signals(server: _Server, leaving: Callable[[], None], *, task_status: TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if server.should_exit:
                log.warning("%s again: not waiting for running calls", signal.Signals(number).name)
                server.force_exit = True
                server.abandon()
                return  # a third one meets Python's default and ends the process
            log.info("%s: finishing running calls", signal.Signals(number).name)
            server.should_exit = True
            leaving()


async def _settle(server: _Server) -> None:
    """Cancel what is still running, and give it a moment to clean up."""
    running = server.server_state.tasks
    for task in running:
        task.cancel()
    if running:
        log.warning("%d calls were still running and are cancelled", len(running))
        await asyncio.wait(running, timeout=CANCEL_S)
