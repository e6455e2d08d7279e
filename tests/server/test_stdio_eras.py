"""Which wire a client speaks: both eras, and a client that probes first."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from tests.server.stdio_wire import (
    ENV,
    ENVELOPE,
    HANDSHAKE,
    INITIALIZED,
    JSON,
    SCRIPT,
    Server,
    call,
    request,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and non-blocking pipes are POSIX")


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
