"""``/healthz``, ``/readyz`` and ``/metrics`` of the uploader, for this machine alone.

A thread answers, so that it can be asked whatever the loop is doing. Nobody has to show a token: only this machine
reaches the address, and what a web page makes a browser ask here under another host's name is refused.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from snowledger_queue.metrics import encoder

from ._errors import MonitorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import CollectorRegistry

log = logging.getLogger(__name__)

REQUEST_S = 5.0
"""For the next bytes of a request to come, or of the answer to be taken."""

LONGEST_S = 10.0
"""For all of it: Prometheus gives up after 10 s, and who sends a byte now and then must not keep a thread."""

MAX_REQUESTS = 8
"""At once; further connections are closed. A scraper makes one at a time."""

STOP_LOOK_S = 0.05
"""How often the thread looks whether it shall end, which delays the uploader's end by so much."""

_HOSTS = ("localhost", "127.0.0.1", "[::1]")


class Monitored(NamedTuple):
    """What is shown."""

    registry: CollectorRegistry
    reasons: Callable[[], list[str]]
    """Why the uploader does not load, in words that anybody may hear; nothing when it does."""


@contextmanager
def monitor(address: tuple[str, int], shown: Monitored) -> Iterator[int]:
    """Answer on the address while the context lasts; gives the port.

    Raises:
        MonitorError: nobody can listen there.
    """
    try:
        server = _Server(address, shown)
    except OSError as error:
        host, port = address
        message = f"cannot listen on {host}:{port} (monitor): {error.strerror or error}"
        raise MonitorError(message) from error
    thread = threading.Thread(target=server.serve_forever, args=(STOP_LOOK_S,), name="monitor", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # whoever sends slowly does not hold up the end

    def __init__(self, address: tuple[str, int], shown: Monitored) -> None:
        self.shown = shown
        self.names = {name for host in _HOSTS for name in (host, f"{host}:{address[1]}")}
        self._room = threading.BoundedSemaphore(MAX_REQUESTS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)
        self.names |= {f"{host}:{self.server_port}" for host in _HOSTS}

    def server_bind(self) -> None:
        """Without the look-up of the host's name that the base class makes, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each request, of which there are few."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        deadline = threading.Timer(LONGEST_S, _cut, [request])
        deadline.daemon = True
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._room.release()

    def handle_error(self, *_: object) -> None:
        """A client that went away is nobody's concern."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("a request to the monitor failed", exc_info=error)


def _cut(request: socket.socket) -> None:
    with suppress(OSError):  # it has just been closed
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_S
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self.headers.get("Host", "localhost").lower() not in self.server.names:
            self._answer(421, {"error": "not a name of this machine"})
        elif path == "/healthz":
            self._answer(200, {"status": "ok"})
        elif path == "/readyz":
            found = self.server.shown.reasons()
            self._answer(
                503 if found else 200, {"status": "not ready", "reasons": found} if found else {"status": "ready"}
            )
        elif path == "/metrics":
            encode, content_type = encoder(self.headers.get("Accept", ""))
            self._send(200, encode(self.server.shown.registry), content_type)
        else:
            self._answer(404, {"error": "there are /healthz, /readyz and /metrics"})

    def version_string(self) -> str:
        return "snowledger"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Requests are not logged."""

    def send_error(self, code: int, *_: object) -> None:
        """Refuse what the base class cannot read, as it would, but by no server error and not in HTML."""
        self.close_connection = True
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._answer(405, {"error": "only GET is answered"})
        else:
            status = 400 if code == HTTPStatus.HTTP_VERSION_NOT_SUPPORTED else code
            self._answer(status, {"error": "not a request that can be read"})

    def _answer(self, status: int, content: object) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status: int, content: bytes, content_type: str) -> None:
        self.request_version = self.protocol_version  # an answer has a head, whatever the request line says
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
