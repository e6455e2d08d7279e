"""``snowledger serve --http``: the spool, the writer and the HTTP transport, from start to orderly end."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING

import anyio

from snowledger_queue import Notifier
from snowledger_server._metrics import Metrics
from snowledger_server._readiness import Readiness
from snowledger_server._run import open_parts
from snowledger_server._server import build_server
from snowledger_server._tokens import Tokens, require_protection

from ._address import listen, shown
from ._app import PATH, App
from ._authentication import authentication, metrics_guard
from ._caller import Callers
from ._hosts import Hosts
from ._monitor import monitor_routes
from ._posts import posts
from ._rate import Rates
from ._serve import serve_http
from ._tls import tls_context
from ._watchdog import tell_progress

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Sequence

    from snowledger_server._run import ServerConfig

    from ._config import HttpConfig

log = logging.getLogger(__name__)


def run_http(config: ServerConfig, http: HttpConfig) -> None:
    """Serve MCP over HTTP until a signal comes; then let running calls finish, flush, seal and return.

    Raises:
        ListenError: it cannot listen where it is told to, or not with this certificate.
        UnprotectedError: other machines could call without a token.
        snowledger_queue.SpoolError: the spool cannot be used.
    """
    tls = tls_context(http.tls_cert, http.tls_key)
    listeners = listen(http.address)
    tokens = Tokens(http.tokens_file)
    for listener in listeners:
        if isinstance(listener.getsockname(), tuple):  # a socket in the file system has only a path
            require_protection(listener.getsockname()[0], tokens)
    # Others come through a proxy on this machine when they may use a name of its own.
    for name in http.allowed_hosts:
        require_protection(name, tokens)
    # The SDK warns of what clients do wrong.
    logging.getLogger("mcp").setLevel(max(logging.ERROR, log.getEffectiveLevel()))
    gc.freeze()
    anyio.run(_serve, config, http, listeners, tls, tokens)


async def _serve(
    config: ServerConfig,
    http: HttpConfig,
    listeners: Sequence[socket.socket],
    tls: ssl.SSLContext | None,
    tokens: Tokens,
) -> None:
    async with open_parts(config) as (spool, journal, contexts, queries):
        metrics = Metrics(config.version, spool, journal, contexts)
        readiness = Readiness(
            spool,
            lambda: "events are refused for want of room" if journal.pressure.state == "refusing" else None,
            lambda: None if tokens.problem() is None else "the tokens cannot be used",
        )
        server = build_server(journal, contexts, queries, Callers(config.version), config.version, metrics.call)
        names = http.allowed_hosts if http.address is None else {*http.allowed_hosts, http.address.host}
        app = App(
            posts(server),
            Hosts(names, http.allowed_origins),
            authentication(tokens, config.identity),
            Rates(http.rate_per_s),
            metrics.rejected,
            monitor_routes(metrics.registry, readiness.reasons, metrics_guard(tokens)),
        )

        notifier = Notifier(http.notify_socket)

        def started() -> None:
            metrics.accepting()
            for listener in listeners:
                log.info("listening on %s://%s%s", "http" if tls is None else "https", shown(listener), PATH)
            notifier.tell(READY="1", STATUS=f"listening on {', '.join(map(shown, listeners))}")

        def leaving() -> None:
            readiness.leaving = True
            notifier.tell(STOPPING="1", STATUS="finishing running calls")
            queries.leave()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(tell_progress, notifier, name="watchdog")
                await serve_http(
                    *(app, listeners, http.max_connections, tls),
                    started=started,
                    leaving=leaving,
                    ended=metrics.connection_ended,
                )
                tasks.cancel_scope.cancel()
        finally:
            metrics.close()
