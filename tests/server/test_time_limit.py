"""A call that hangs is ended, and its client told what that means."""

import anyio
import mcp_types as types
import pytest

from snowledger_queue import Origin
from snowledger_server import Caller, Identity, _server
from snowledger_server._tool import Call, Tool


async def test_a_call_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "CALL_S", 0.1)
    observed: list[tuple[str, str]] = []

    async def hang(_call: Call) -> dict[str, object]:
        await anyio.sleep(60)
        return {}

    async def tell(_done: float, _words: str) -> None:
        pass

    definition = types.Tool(name="hangs", input_schema={"type": "object", "properties": {}, "required": []})
    caller = Caller(Identity("acme"), Origin("1", "session"))
    with anyio.fail_after(10):
        result = await _server.call(
            Tool(definition, hang),
            Call({}, caller, "cdesk_01234567", tell),
            lambda tool, outcome, _seconds: observed.append((tool, outcome)),
        )
    assert result.is_error
    assert isinstance(result.content[0], types.TextContent)
    assert result.content[0].text.startswith(
        "the call was ended after 0.1 s. Whether anything was stored is not known."
    )
    assert observed == [("hangs", "failed")]
