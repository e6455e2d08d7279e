"""Runs commands each in a process of its own, forked from one that has loaded what they load.

That is how some three hundred commands cost a fraction of what as many new interpreters do. A command gets its own
arguments, environment, folder and standard streams, and its exit code is that of its process. What it loads by itself,
and how it deals with signals and pipes, is tested with new interpreters.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile

PRELOADED = [
    *("anyio._backends._asyncio", "duckdb", "pydantic_settings", "sqlglot", "sqlglot.dialects.duckdb"),
    *("snowledger.__main__", "snowledger.settings", "snowledger_ddl", "snowledger_queue", "snowledger_uploader"),
]
LIMIT_S = 50  # below the limit of a test


class CommandServer:
    """The process to fork from, as its clients see it; started with the first command."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def run(
        self, arguments: Sequence[str | Path], folder: Path, environment: dict[str, str], text: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; a negative exit code is the signal that ended it."""
        if sys.platform == "win32":
            command = [sys.executable, "-m", "snowledger", *arguments]
            done = subprocess.run(
                command, cwd=folder, env=environment, input=text, capture_output=True, check=False, timeout=LIMIT_S
            )
            return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())
        with self._turn, TemporaryFile() as given, TemporaryFile() as output, TemporaryFile() as errors:
            given.write(text)
            given.seek(0)
            channel = self._socket or self._start()
            words = [str(argument) for argument in arguments]
            request = json.dumps({"arguments": words, "folder": str(folder), "environment": environment}).encode()
            channel.sendall(len(request).to_bytes(4, "big"))
            socket.send_fds(channel, [b"."], [given.fileno(), output.fileno(), errors.fileno()])
            channel.sendall(request)
            code = int.from_bytes(channel.recv(4), "big", signed=True)
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(words, code, output.read().decode(), errors.read().decode())

    def close(self) -> None:
        if self._process is not None and self._socket is not None:
            self._socket.close()
            self._process.wait(LIMIT_S)
            self._process = self._socket = None

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        ours.settimeout(LIMIT_S)
        self._socket = ours
        return ours


SERVER = CommandServer()
"""One for all tests of a worker; `tests/conftest.py` ends it."""


def serve(channel: socket.socket) -> None:
    """Fork for each request; returns in the child, in the parent at the end of requests."""
    for name in PRELOADED:
        import_module(name)
    while size := channel.recv(4):
        _, streams, _, _ = socket.recv_fds(channel, 1, 3)
        request = json.loads(channel.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
        child = os.fork()
        if child == 0:
            channel.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            os.environ.clear()
            os.environ.update(request["environment"])
            os.chdir(request["folder"])
            sys.argv[1:] = request["arguments"]
            return
        for stream in streams:
            os.close(stream)
        _, status = os.waitpid(child, 0)
        channel.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    os._exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        import_module("snowledger.__main__").main()
    except SystemExit as end:
        sys.stdout.flush()
        # Python would take a third of a second to clear away what is loaded.
        os._exit(int(end.code or 0))
