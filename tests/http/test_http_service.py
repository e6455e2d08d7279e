"""The server as systemd runs it: on a socket that it was handed, without a network of its own, and watched."""

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
from tests.acceptance.ledger import PATIENCE_S, Ledger
from tests.http.http_server import MODERN, call
from tests.server.server_samples import EVENT
from tests.uploader.service_manager import ServiceManager, service_manager

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="systemd is Linux's")

HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "snowledger", "serve", "--http", "systemd", "--no-uploader"])
"""


def without_network() -> list[str]:
    """What gives a command an empty network of its own, as PrivateNetwork= does; nothing where that is not possible."""
    unshare = shutil.which("unshare")
    able = unshare is not None and subprocess.run([unshare, "-n", "true"], check=False, stderr=subprocess.DEVNULL)
    return [str(unshare), "-n"] if able and able.returncode == 0 else []


@contextmanager
def service(ledger: Ledger, manager: ServiceManager, listener: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*without_network(), sys.executable, "-c", HAND_OVER, str(listener.fileno())],
        env={**ledger.environment, "NOTIFY_SOCKET": manager.address},
        pass_fds=[listener.fileno()],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_socket_that_was_handed_over_is_all_the_network_it_needs(ledger: Ledger) -> None:
    with (
        service_manager() as manager,
        socket.create_server(("127.0.0.1", 0)) as listener,
        service(ledger, manager, listener) as process,
        httpx2.Client(timeout=PATIENCE_S) as client,
    ):
        port = listener.getsockname()[1]
        # Whoever connects while it starts is answered when it has.
        answer = call(client, f"http://127.0.0.1:{port}/mcp", MODERN, "log_event", EVENT)
        assert answer.json()["result"]["isError"] is False
        assert manager.hears("READY=1")
        assert manager.hears(f"STATUS=listening on 127.0.0.1:{port}")
        manager.wait_for("WATCHDOG=1")
        assert not manager.hears("STOPPING=1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert manager.hears("STOPPING=1")
        assert len(ledger.queued()) == 1


def test_when_the_watchdog_ends_it_the_log_says_where_it_was(ledger: Ledger) -> None:
    with (
        service_manager() as manager,
        socket.create_server(("127.0.0.1", 0)) as listener,
        service(ledger, manager, listener) as process,
    ):
        manager.wait_for("READY=1")
        process.send_signal(signal.SIGABRT)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == -signal.SIGABRT
        assert b"Fatal Python error: Aborted" in errors
