"""Answers that go onto the wire as the bytes they are: the same for a client as if the SDK had copied them."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import mcp_types as types
import orjson
import pytest
from mcp import Client
from mcp.server.lowlevel import Server
from tests.acceptance.ledger import Ledger
from tests.server import stdio_wire
from tests.server.server_samples import ERAS, EVENT, INSIGHT

from snowledger_server._encoded_answers import EncodedAnswers
from snowledger_server._jsonrpc import encode

ODD = {"text": 'ü\u2028\U0001f9ca\x7f"\\', "numbers": [1e100, -0.0, 2**53 - 1, 1.5], "": {"a/b": None}, "list": [[]]}

Exchange = Callable[..., bytes]


@pytest.fixture(params=["2025-11-25", "2026-07-28"])
def exchange(request: pytest.FixtureRequest, ledger: Ledger) -> Iterator[Exchange]:
    """Call a tool of a server process by hand; the line of its answer."""
    process = ledger.start("serve", "--no-uploader")
    modern = request.param == "2026-07-28"
    numbers = itertools.count(1)

    def send(*messages: dict[str, Any]) -> None:
        assert process.stdin is not None
        process.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def call(tool: str, arguments: dict[str, Any], number: int | None = None) -> bytes:
        meta = {"_meta": stdio_wire.ENVELOPE} if modern else {}
        send(stdio_wire.request(number or next(numbers), "tools/call", {"name": tool, "arguments": arguments, **meta}))
        assert process.stdout is not None
        return process.stdout.readline()

    if not modern:
        send(stdio_wire.request(0, "initialize", stdio_wire.HANDSHAKE), stdio_wire.INITIALIZED)
        assert process.stdout is not None
        process.stdout.readline()
    yield call
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 0


def test_the_text_and_the_structured_content_are_the_same_bytes(exchange: Exchange) -> None:
    for tool, arguments in (
        ("log_event", {**EVENT, "feature_json": ODD}),
        ("log_insight", {**INSIGHT, "value": ODD}),
        ("get_context", {}),
        ("get_context", {"max_bytes": 512}),
    ):
        line = exchange(tool, arguments)
        result = json.loads(line)["result"]
        text = result["content"][0]["text"]
        assert b'"structuredContent":' + text.encode() in line
        assert result["structuredContent"] == json.loads(text)
        assert result["isError"] is False
    assert json.loads(exchange("get_context", {}))["result"]["structuredContent"]["insights"][0]["value"] == ODD


def test_an_answer_to_an_id_of_more_than_64_bits_is_the_same(exchange: Exchange) -> None:
    """Which orjson cannot encode."""
    exchange("log_insight", {**INSIGHT, "value": ODD})
    reply = json.loads(exchange("get_context", {}, 2**70))
    assert reply["id"] == 2**70
    assert reply["result"]["structuredContent"] == json.loads(reply["result"]["content"][0]["text"])
    assert reply["result"]["structuredContent"]["insights"][0]["value"] == ODD


def test_an_error_keeps_its_own_structured_content(exchange: Exchange) -> None:
    exchange("get_context", {})
    result = json.loads(exchange("get_context", {"max_bytes": 1}))["result"]
    assert result["isError"] is True
    assert set(result["structuredContent"]) == {"error", "retryable"}
    assert "error" in json.loads(exchange("no_such_tool", {}))


@pytest.mark.parametrize("mode", ERAS)
async def test_the_official_client_gets_the_same_answers_many_at_once(ledger: Ledger, mode: str) -> None:
    """Each call has its own holder: answers never get mixed up."""
    async with Client(ledger.server("--no-uploader"), mode=mode) as client:
        await client.call_tool("log_insight", {**INSIGHT, "value": ODD})

        async def call(number: int) -> None:
            size = 600 + number
            result = await client.call_tool("get_context", {"max_bytes": size} if number % 3 else {"max_bytes": number})
            [content] = result.content
            assert isinstance(content, types.TextContent)
            if number % 3:
                assert result.structured_content == json.loads(content.text)
                assert result.structured_content["customer"] == "acme"
            else:
                assert result.is_error
                assert set(result.structured_content or {}) == {"error", "retryable"}

        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(call, number)


def test_what_orjson_cannot_encode_is_sent_with_the_encoded_part_whole() -> None:
    result = {"structuredContent": orjson.Fragment(orjson.dumps(ODD)), "text": "\ud800", "number": 2**70}
    line = encode(types.JSONRPCResponse(jsonrpc="2.0", id=1, result=result))
    assert json.loads(line)["result"] == {"structuredContent": ODD, "text": "?", "number": 2**70}


def test_what_is_not_json_is_still_an_internal_error() -> None:
    line = encode(types.JSONRPCResponse(jsonrpc="2.0", id=1, result={"a": object()}))
    assert json.loads(line)["error"]["code"] == types.INTERNAL_ERROR


def test_a_server_that_is_served_twice_has_the_middleware_once() -> None:
    """With an empty standard input, a session of nothing."""
    script = """
import anyio
from mcp.server.lowlevel import Server
from snowledger_server import serve_stdio
from snowledger_server._encoded_answers import EncodedAnswers
server = Server("twice")
anyio.run(serve_stdio, server)
anyio.run(serve_stdio, server)
print([type(one) for one in server.middleware].count(EncodedAnswers))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "1\n"
    assert not any(isinstance(one, EncodedAnswers) for one in Server("in process").middleware)
