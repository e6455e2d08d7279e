"""Runs commands each in a process of its own, forked from one that has loaded what they load.

That is how some five hundred commands cost a fraction of what as many new interpreters do. A command gets its own
arguments, environment, folder and standard streams, and its exit code is that of its process. What it loads by itself,
and how it deals with signals and pipes from its first moment on, is tested with new interpreters.
"""

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

from tests import forked_command
from tests.forked_command import told

PRELOADED = [
    *("anyio._backends._asyncio", "duckdb", "pydantic_settings", "sqlglot", "sqlglot.dialects.duckdb"),
    *("snowledger.__main__", "snowledger.settings", "snowledger_ddl", "snowledger_queue", "snowledger_uploader"),
    *("mcp.server.stdio", "snowledger_server._run", "snowledger_server._http._run", "prometheus_client"),
    *("snowledger_ddl._template_sql", "snowledger_uploader._metrics", "snowledger_uploader._monitor"),
]
LIMIT_S = 50  # below the limit of a test


class Command:
    """A command that runs; has what tests use of `subprocess.Popen`."""

    def __init__(self, channel: socket.socket, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None) -> None:
        self._channel = channel
        self.pid = told(channel)
        self.stdin = stdin
        self.stdout = stdout
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; a negative one is the signal that ended it."""
        if self.returncode is None:
            if not select.select([self._channel], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = told(self._channel)
            self._channel.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class CommandServer:
    """The process to fork from, as its clients see it; started with the first command."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: TemporaryDirectory[str] | None = None

    def run(
        self, arguments: Sequence[str | Path], folder: Path, environment: Mapping[str, str], text: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        words = [str(argument) for argument in arguments]
        with TemporaryFile() as given, TemporaryFile() as output, TemporaryFile() as errors:
            given.write(text)
            given.seek(0)
            streams = [given.fileno(), output.fileno(), errors.fileno()]
            code = Command(forked_command.request(self.address, words, str(folder), environment, streams)).wait(LIMIT_S)
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(words, code, output.read().decode(), errors.read().decode())

    def start(
        self,
        arguments: Sequence[str | Path],
        folder: Path,
        environment: Mapping[str, str],
        errors: int,
        script: str | None = None,
    ) -> Command:
        """Start a command that goes on, or a script, with pipes for its input and its output."""
        words = [str(argument) for argument in arguments]
        theirs, ours = os.pipe()
        output, printed = os.pipe()
        try:
            streams = [theirs, printed, errors]
            channel = forked_command.request(self.address, words, str(folder), environment, streams, script)
            return Command(channel, os.fdopen(ours, "wb", buffering=0), os.fdopen(output, "rb", buffering=0))
        finally:
            os.close(theirs)
            os.close(printed)

    def program(self, *arguments: str) -> list[str]:
        """A command line for whoever has to start the command as a program."""
        return [sys.executable, "-I", "-S", forked_command.__file__, self.address, *arguments]

    @property
    def address(self) -> str:
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="snowledger-commands-")
            address = f"{self._folder.name}/socket"
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(address)
                listener.listen()
                # Its input is a pipe that nobody writes to: it ends when this process does.
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.command_server", str(listener.fileno())],
                    cwd=Path(__file__).parents[1],
                    stdin=subprocess.PIPE,
                    pass_fds=[listener.fileno()],
                )
        return f"{self._folder.name}/socket"

    def close(self) -> None:
        if self._process is not None and self._folder is not None:
            self._process.communicate(timeout=LIMIT_S)
            self._folder.cleanup()
            self._process = self._folder = None


SERVER = CommandServer()
"""One for all tests of a worker; `tests/conftest.py` ends it."""


def serve(listener: socket.socket) -> str | None:
    """Fork for each request; returns in a command's process alone, with the script that it shall run."""
    for name in PRELOADED:
        import_module(name)
    gc.freeze()  # what is loaded stays shared with the commands
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        with contextlib.suppress(ChildProcessError):  # those that have ended
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if sys.stdin in ready:
            os._exit(0)
        channel, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return watch(channel)
        channel.close()


def watch(channel: socket.socket) -> str | None:
    """Fork once more, and tell how that ended; returns in the command's process alone, with its script."""
    size, streams, _, _ = socket.recv_fds(channel, 4, 3)
    request = json.loads(channel.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
    command = os.fork()
    if command == 0:
        channel.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv[1:] = request["arguments"]
        script: str | None = request["script"]
        return script
    for number, stream in enumerate(streams):
        os.close(stream)
        os.close(number)
    with contextlib.suppress(ConnectionError):  # who asked may be gone
        channel.sendall(command.to_bytes(4, "big", signed=True))
        _, status = os.waitpid(command, 0)
        channel.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    os._exit(0)


def run(script: str | None) -> int:
    try:
        if script is None:
            import_module("snowledger.__main__").main()
        else:
            runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
            return 1
        return end.code or 0
    return 0


if __name__ == "__main__":
    exit_code = run(serve(socket.socket(fileno=int(sys.argv[1]))))
    sys.stdout.flush()
    # Python would take a third of a second to clear away what is loaded.
    os._exit(exit_code)
