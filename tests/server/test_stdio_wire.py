"""What the stdio transport promises, each promise against a real process (wire_server.py)."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from snowledger_server._session import DRAIN_S, MAX_IN_FLIGHT
from snowledger_server._wire import MAX_LINE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and non-blocking pipes are POSIX")

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
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", SCRIPT, *args],
                stdin=stdin,
                stdout=stdout,
                stderr=log if stderr is None else stderr,
                env=ENV,
                bufsize=0,
            )
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


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def begin(*args: str, **streams: Any) -> Server:
        servers.append(Server(tmp_path, *args, **streams))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    """A server that has shaken hands."""
    begun = start()
    begun.handshake()
    return begun


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same for many tests: none of them may harm the connection."""
    begun = Server(tmp_path_factory.mktemp("lasting"))
    begun.handshake()
    yield begun
    begun.close()


# --- Both eras ---


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_official_client_connects_calls_and_leaves(mode: Any) -> None:
    async def session() -> None:
        parameters = StdioServerParameters(command=sys.executable, args=[SCRIPT], env=ENV)
        async with Client(parameters, mode=mode) as client:
            assert len((await client.list_tools()).tools) == 5
            result = await client.call_tool("echo", {"a": "ä\n"})
            assert json.loads(result.content[0].text) == {"a": "ä\n"}  # type: ignore[union-attr]

    anyio.run(session)


BARE = request(1, "server/discover")
ENVELOPED = request(2, "server/discover", {"_meta": ENVELOPE})


@pytest.mark.parametrize(
    "probes",
    [[BARE], [ENVELOPED], [BARE, ENVELOPED], [ENVELOPED, BARE, ENVELOPED, ENVELOPED]],
    ids=["bare", "enveloped", "bare first", "many"],
)
@pytest.mark.parametrize("pipelined", [False, True])
def test_a_client_that_probes_may_still_initialize(
    start: Callable[..., Server], probes: list[JSON], pipelined: bool
) -> None:
    server = start()
    replies = []
    for probe in probes:
        server.send(probe)
        if not pipelined:
            replies.append(server.receive())
    server.send(request(7, "initialize", HANDSHAKE), INITIALIZED, call(8, "echo", a=1))
    replies += [server.receive() for _ in range(len(probes) + 2 - len(replies))]
    assert [reply["id"] for reply in replies] == [*(probe["id"] for probe in probes), 7, 8]
    assert ["result" in reply for reply in replies] == [*(probe is ENVELOPED for probe in probes), True, True]
    assert all(reply["error"]["code"] == -32601 for reply in replies if "error" in reply)
    assert server.log.count("lifespan begins") == 1


def test_a_client_that_probes_may_go_on_in_the_modern_era(start: Callable[..., Server]) -> None:
    server = start()
    modern = call(3, "echo", a=1)
    modern["params"]["_meta"] = ENVELOPE
    server.send(BARE, ENVELOPED, modern)
    assert [server.receive()["id"] for _ in range(3)] == [1, 2, 3]
    server.send(request(4, "initialize", HANDSHAKE))
    assert server.receive()["error"]["code"] == -32022, "the era is chosen now"


# --- The end ---


@pytest.mark.parametrize("how", ["EOF", "SIGTERM", "SIGINT", "stop event"])
@promptly
def test_a_running_call_is_answered_before_the_server_leaves(start: Callable[..., Server], how: str) -> None:
    server = start("stop") if how == "stop event" else start()
    server.handshake()
    server.send(call(1, "slow", seconds=0.3))
    server.wait_for_log("slow begins")
    since = time.time()
    if how == "EOF":
        assert server.process.stdin is not None
        server.process.stdin.close()
    elif how != "stop event":
        server.process.send_signal(signal.Signals[how])
    assert [text(reply) for reply in server.rest()] == ["slept"]
    server.leaves_within(EXIT_S, since)


@promptly
def test_a_call_longer_than_the_limit_is_answered_with_an_error(start: Callable[..., Server]) -> None:
    server = start()
    server.handshake()
    server.send(call(1, "slow", seconds=60))
    server.wait_for_log("slow begins")
    since = time.time()
    server.process.send_signal(signal.SIGTERM)
    (reply,) = server.rest()
    assert reply["id"] == 1
    assert reply["error"]["message"] == "Connection closed"
    server.leaves_within(EXIT_S, since)


@promptly
def test_a_second_signal_ends_the_waiting(start: Callable[..., Server]) -> None:
    server = start()
    server.handshake()
    server.send(call(1, "slow", seconds=60))
    server.wait_for_log("slow begins")
    since = time.time()
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGINT)  # a different one: two equal ones may merge
    server.leaves_within(DRAIN_S / 2, since)


@promptly
def test_a_signal_after_the_end_of_input_changes_nothing(start: Callable[..., Server]) -> None:
    server = start()
    server.handshake()
    server.send(call(1, "slow", seconds=0.3))
    server.wait_for_log("slow begins")
    since = time.time()
    assert server.process.stdin is not None
    server.process.stdin.close()
    server.process.send_signal(signal.SIGTERM)
    assert [text(reply) for reply in server.rest()] == ["slept"]
    server.leaves_within(EXIT_S, since)


@promptly
def test_a_cancelled_call_is_not_waited_for(start: Callable[..., Server]) -> None:
    server = start()
    server.handshake()
    server.send(call(1, "slow", seconds=60))
    server.wait_for_log("slow begins")
    server.send(CANCEL_1, request(2, "ping"))
    assert server.receive()["id"] == 2
    since = time.time()
    server.process.send_signal(signal.SIGTERM)
    assert server.rest() == []
    server.leaves_within(DRAIN_S / 2, since)


@promptly
def test_calls_finish_when_the_client_has_closed_its_side(start: Callable[..., Server]) -> None:
    server = start()
    server.handshake()
    server.send(call(1, "slow", seconds=0.3))
    server.wait_for_log("slow begins")
    assert server.process.stdout is not None
    server.process.stdout.close()
    since = time.time()
    server.send(request(2, "ping"))
    server.leaves_within(EXIT_S, since)
    assert "slow ends" in server.log


@promptly
def test_a_client_that_does_not_read_cannot_hold_the_server_up(start: Callable[..., Server]) -> None:
    server = start()
    server.handshake()
    server.send(*(call(i, "big", size=100_000) for i in range(1, 50)), call(99, "slow", seconds=60))
    server.wait_for_log("slow begins")
    since = time.time()
    server.process.send_signal(signal.SIGTERM)
    server.leaves_within(EXIT_S, since)


def test_no_more_calls_are_begun_than_can_be_finished_at_the_end(server: Server) -> None:
    server.send(*(call(i, "slow", seconds=60) for i in range(1, 2 * MAX_IN_FLIGHT)))
    wait_until(lambda: server.log.count("slow begins") >= MAX_IN_FLIGHT)
    server.process.send_signal(signal.SIGTERM)
    assert {reply["id"] for reply in server.rest()} == set(range(1, MAX_IN_FLIGHT + 1))


def test_an_error_at_start_reaches_the_caller_as_it_is(start: Callable[..., Server]) -> None:
    server = start("fail")
    assert server.process.wait(PATIENCE_S) == 1
    assert server.log == "start-up failed: no spool\n"


# --- What arrives ---


@pytest.mark.parametrize(
    ("garbage", "code", "request_id"),
    [
        (b"hello", -32700, None),
        (b'{"jsonrpc":"2.0","id":5,"method":"ping"', -32700, None),
        (b'{"jsonrpc":"2.0","id":5,"method":"p\xff"}', -32700, None),
        (
            b'{"jsonrpc":"2.0","id":5,"method":"x","params":' + b'{"a":' * 9999 + b"1" + b"}" * 10_000,
            -32700,
            None,
        ),
        (b'[{"jsonrpc":"2.0","id":5,"method":"ping"}]', -32600, None),
        (b"[]", -32600, None),
        (b"7", -32600, None),
        (b"{}", -32600, None),
        (b'{"id":5,"method":"ping"}', -32600, 5),
        (b'{"jsonrpc":"1.0","id":"a","method":"ping"}', -32600, "a"),
        (b'{"jsonrpc":"2.0","id":5,"method":7}', -32600, 5),
        (b'{"jsonrpc":"2.0","id":5,"method":"ping","params":[1]}', -32600, 5),
        (b'{"jsonrpc":"2.0","id":5}', -32600, 5),
        (b'{"jsonrpc":"2.0","id":5,"result":7}', -32600, None),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":5,"method":"\\ud800"}', -32601, 5),
    ],
)
def test_what_is_no_message_is_answered_and_the_connection_lives_on(
    lasting: Server, garbage: bytes, code: int, request_id: object
) -> None:
    lasting.send(garbage, request(6, "ping"))
    reply = lasting.receive()
    assert (reply["error"]["code"], reply["id"]) == (code, request_id)
    assert lasting.receive() == {"jsonrpc": "2.0", "id": 6, "result": {}}
    assert "Traceback" not in lasting.log


def test_blank_lines_and_a_byte_order_mark_are_ignored(lasting: Server) -> None:
    lasting.send(b"", b"\r", b"  ", b"\xef\xbb\xbf" + line(request(6, "ping")) + b"\r")
    assert lasting.receive()["id"] == 6


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_line_over_the_limit_is_skipped_in_bounded_memory(server: Server) -> None:
    def peak() -> int:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])

    before = peak()
    server.send(b"x" * (8 * MAX_LINE), request(6, "ping"))
    reply = server.receive()
    assert (reply["error"]["code"], reply["id"]) == (-32600, None)
    assert str(MAX_LINE) in reply["error"]["message"]
    assert server.receive()["id"] == 6
    assert peak() - before < 3 * MAX_LINE


def test_a_line_of_the_limit_is_served_and_one_byte_more_is_not(server: Server) -> None:
    message = json.dumps(call(1, "echo")).encode()
    server.send(message.ljust(MAX_LINE), message.ljust(MAX_LINE + 1))
    replies = [server.receive(), server.receive()]
    assert {reply["id"] for reply in replies} == {1, None}


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (b"NaN", "NaN"),
        (b"-Infinity", "-Infinity"),
        (b"1e999", "Infinity"),
        (b'"\\ud800"', '"\\ud800"'),
        (b"123456789012345678901234567890", "123456789012345678901234567890"),
        (b"-" + b"9" * 5000, "-Infinity"),
        (b"[" * 300 + b"]" * 300, "[" * 300 + "]" * 300),
    ],
)
def test_values_that_json_cannot_hold_reach_the_tool(lasting: Server, value: bytes, seen: str) -> None:
    lasting.send(line(call(1, "echo", v=None)).replace(b"null", value).strip())
    assert text(lasting.receive()) == f'{{"v": {seen}}}'


# --- What leaves ---


def test_a_lone_surrogate_in_an_answer_is_replaced(lasting: Server) -> None:
    lasting.send(call(1, "raw", text="ä\ud800"))
    assert text(lasting.receive()) == "ä?"
    lasting.send(request(2, "ping"))
    assert lasting.receive()["id"] == 2


@pytest.mark.parametrize("flush", [True, False])
def test_stray_output_goes_to_standard_error(server: Server, flush: bool) -> None:
    server.send(call(1, "print", flush=flush))
    assert text(server.receive()) == "printed"
    assert server.process.stdin is not None
    server.process.stdin.close()
    assert server.rest() == []
    assert server.process.wait(PATIENCE_S) == 0
    for words in ("stray print", "stray write", "stray child read 0"):
        assert words in server.log


def test_large_answers_stay_whole_when_many_are_under_way(lasting: Server) -> None:
    sizes = {i: 300_000 + i for i in range(1, 21)}
    for i, size in sizes.items():
        lasting.send(call(i, "big", size=size), call(100 + i, "echo"))
    replies = [lasting.receive() for _ in range(40)]
    assert {r["id"]: len(text(r)) for r in replies if r["id"] < 100} == sizes


# --- What the standard streams may be ---


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
