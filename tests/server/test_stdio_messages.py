"""What arrives on the stdio wire and what leaves it: nothing is lost, no garbage ends the connection."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.server.stdio_wire import (
    PATIENCE_S,
    Server,
    call,
    line,
    request,
    text,
)

from snowledger_server._wire import MAX_LINE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and non-blocking pipes are POSIX")


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
