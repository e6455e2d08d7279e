"""What the standard streams may be: pipes, files, sockets, terminals, closed."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.server.stdio_wire import (
    ENV,
    HANDSHAKE,
    INITIALIZED,
    PATIENCE_S,
    SCRIPT,
    Server,
    call,
    line,
    request,
    wait_until,
)

from snowledger_server._session import MAX_IN_FLIGHT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and non-blocking pipes are POSIX")


def test_input_and_output_may_be_regular_files(start: Callable[..., Server], tmp_path: Path) -> None:
    count = 4 * MAX_IN_FLIGHT  # far more than are in flight at once: none may be lost at the end of the input
    script, answers = tmp_path / "in", tmp_path / "out"
    messages = [request(0, "initialize", HANDSHAKE), *(call(i, "echo", i=i) for i in range(1, count))]
    script.write_bytes(b"".join(map(line, messages)).rstrip(b"\n"))  # the last line is not terminated
    with script.open("rb") as stdin, answers.open("wb") as stdout:
        server = start(stdin=stdin, stdout=stdout)
        assert server.process.wait(PATIENCE_S) == 0
    replies = [json.loads(item) for item in answers.read_bytes().splitlines()]
    assert sorted(reply["id"] for reply in replies) == list(range(count))
    assert all("result" in reply for reply in replies)


def test_input_may_be_the_null_device(start: Callable[..., Server]) -> None:
    server = start(stdin=subprocess.DEVNULL)
    assert server.rest() == []
    assert server.process.wait(PATIENCE_S) == 0


def test_input_and_output_may_be_one_socket(start: Callable[..., Server]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as replies:
        server = start(stdin=theirs.fileno(), stdout=theirs.fileno())
        theirs.close()
        ours.settimeout(PATIENCE_S)
        ours.sendall(b"".join(map(line, [request(0, "initialize", HANDSHAKE), INITIALIZED])))
        assert json.loads(replies.readline())["id"] == 0
        for i in range(1, 9):
            ours.sendall(line(call(i, "big", size=200_000)))
        assert sorted(json.loads(replies.readline())["id"] for _ in range(8)) == list(range(1, 9))
        ours.shutdown(socket.SHUT_WR)
        assert server.process.wait(PATIENCE_S) == 0


def test_output_may_be_the_same_pipe_as_standard_error(start: Callable[..., Server]) -> None:
    server = start(stderr=subprocess.STDOUT)
    server.send(request(0, "initialize", HANDSHAKE))
    assert server.process.stdout is not None
    assert server.process.stdin is not None
    server.process.stdin.close()
    lines = server.process.stdout.read().splitlines()
    assert [json.loads(item)["id"] for item in lines if item.startswith(b"{")] == [0]
    assert b"lifespan ends" in lines
    assert server.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("was_blocking", [True, False])
def test_the_blocking_mode_of_the_output_is_put_back(start: Callable[..., Server], was_blocking: bool) -> None:
    read_end, write_end = os.pipe()
    try:
        os.set_blocking(write_end, was_blocking)
        server = start(stdout=write_end)
        server.wait_for_log("lifespan begins")
        wait_until(lambda: not os.get_blocking(write_end))
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(PATIENCE_S) == 0
        assert os.get_blocking(write_end) is was_blocking
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_terminal_is_never_switched_to_non_blocking_mode(start: Callable[..., Server]) -> None:
    ours, theirs = os.openpty()
    try:
        server = start(stdin=theirs, stdout=theirs, stderr=theirs)
        os.write(ours, line(request(0, "initialize", HANDSHAKE)))
        seen = b""
        while b'"result"' not in seen:
            assert select.select([ours], [], [], PATIENCE_S)[0]
            seen += os.read(ours, 65536)
        assert os.get_blocking(theirs)
        os.write(ours, b"\x04")  # Ctrl-D: end of input
        assert server.process.wait(PATIENCE_S) == 0
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_a_closed_stream_is_an_error_at_once(closed: str) -> None:
    command = ["sh", "-c", f'exec "$0" "$1" {closed}', sys.executable, SCRIPT]
    done = subprocess.run(command, env=ENV, capture_output=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert done.stderr == b"start-up failed: standard input and standard output must be open\n"
