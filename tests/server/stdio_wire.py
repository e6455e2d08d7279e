"""A server process on the wire, byte by byte: what the tests of the stdio transport share."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from tests.command_server import SERVER, Command

SCRIPT = str(Path(__file__).with_name("wire_server.py"))
# All of the environment, of which the official client passes on a part; but prints must stay in their buffer.
ENV = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
PATIENCE_S = 15.0  # an unrelated load on the machine must not fail a test; every wait ends far sooner
EXIT_S = 0.8  # for the server's work: the promise is 1 s for the whole process
TEARDOWN_S = 1.0  # for the interpreter's end, which takes 0.02 s on an idle machine

JSON = dict[str, Any]
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
HANDSHAKE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
CANCEL_1 = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}


def request(request_id: int, method: str, params: JSON | None = None) -> JSON:
    return {
        "jsonrpc": "2.0",
        "id": request_id,
        "method": method,
        **({} if params is None else {"params": params}),
    }


def call(request_id: int, tool: str, **arguments: Any) -> JSON:
    return request(request_id, "tools/call", {"name": tool, "arguments": arguments})


def line(message: JSON | bytes) -> bytes:
    return (message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n"


def text(reply: JSON) -> str:
    content: str = reply["result"]["content"][0]["text"]
    return content


class TooSlowError(AssertionError):
    """The server did all it should, but later than promised."""


def promptly(test: Callable[..., None]) -> Callable[..., None]:
    """Repeat a test that was only too slow: a busy machine is slow at times, a broken promise every time."""

    @functools.wraps(test)
    def best_of_three(*args: Any, **kwargs: Any) -> None:
        for _ in range(2):
            with contextlib.suppress(TooSlowError):
                return test(*args, **kwargs)
        return test(*args, **kwargs)

    return best_of_three


class Server:
    """The server process, its wire and its standard error."""

    def __init__(
        self,
        tmp_path: Path,
        *args: str,
        stdin: int | IO[bytes] = subprocess.PIPE,
        stdout: int | IO[bytes] = subprocess.PIPE,
        stderr: int | None = None,
    ) -> None:
        self._log = tmp_path / "stderr"
        with self._log.open("wb") as log:
            self.process: Command | subprocess.Popen[bytes]
            if (stdin, stdout, stderr) == (subprocess.PIPE, subprocess.PIPE, None):
                self.process = SERVER.start(args, tmp_path, ENV, log.fileno(), SCRIPT)
            else:
                command = [sys.executable, "-W", "error", SCRIPT, *args]
                errors = log if stderr is None else stderr
                self.process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=errors, env=ENV, bufsize=0)
        self._buffer = b""

    @property
    def log(self) -> str:
        return self._log.read_text()

    def send(self, *messages: JSON | bytes) -> None:
        assert self.process.stdin is not None
        data = memoryview(b"".join(map(line, messages)))
        while data:
            data = data[self.process.stdin.write(data) :]

    def handshake(self) -> None:
        self.send(request(0, "initialize", HANDSHAKE), INITIALIZED)
        assert self.receive()["id"] == 0

    def receive(self) -> JSON:
        assert self.process.stdout is not None
        deadline = time.monotonic() + PATIENCE_S
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], deadline - time.monotonic())
            assert ready, f"no line in time; stderr: {self.log}"
            chunk = os.read(self.process.stdout.fileno(), 2**20)
            assert chunk, f"the server has left; stderr: {self.log}"
            self._buffer += chunk
        first, self._buffer = self._buffer.split(b"\n", 1)
        message: JSON = json.loads(first.decode())
        return message

    def rest(self) -> list[JSON]:
        """All that is still to come until the server closes its side."""
        assert self.process.stdout is not None
        data = self._buffer + self.process.stdout.read()
        assert not data or data.endswith(b"\n"), "the last line is torn"
        return [json.loads(item) for item in data.splitlines()]

    def wait_for_log(self, words: str) -> None:
        wait_until(lambda: words in self.log)

    def leaves_within(self, seconds: float, since: float) -> None:
        """Check that the server's work ended within `seconds`, and the process soon after, without an error."""
        assert self.process.wait(PATIENCE_S) == 0, self.log
        now = time.time()
        assert "Traceback" not in self.log
        assert self.log.endswith("lifespan ends\n")
        worked = self._log.stat().st_mtime - since
        if worked >= seconds or now - since - worked >= TEARDOWN_S:
            raise TooSlowError(f"worked for {worked:.2f} s, gone after {now - since:.2f} s")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
