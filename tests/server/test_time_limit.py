"""A call that hangs is ended, and its client told what that means."""

import anyio
import mcp_types as types
import pytest

from snowledger_queue import Origin
from snowledger_server import Caller, Identity, _server
from snowledger_server._tool import Call, Tool


@pytest.mark.parametrize(
    ("reads", "advice"),
    [
        (False, "Whether anything was stored is not known. Repeating the call does no harm."),
        (True, "Repeat the call unchanged in a second."),
    ],
)
async def test_a_call_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, reads: bool, advice: str) -> None:
    monkeypatch.setattr(_server, "CALL_S", 0.1)
    observed: list[tuple[str, str]] = []

    async def hang(_call: Call) -> dict[str, object]:
        await anyio.sleep(60)
        return {}

    async def tell(_done: float, _words: str) -> None:
        pass

    definition = types.Tool(
        name="hangs",
        input_schema={"type": "object", "properties": {}, "required": []},
        annotations=types.ToolAnnotations(read_only_hint=reads),
    )
    caller = Caller(Identity("acme"), Origin("1", "session"))
    with anyio.fail_after(10):
        result = await _server.call(
            Tool(definition, hang),
            Call({}, caller, "cdesk_01234567", tell),
            lambda tool, outcome, _seconds: observed.append((tool, outcome)),
        )
    assert result.is_error
    assert isinstance(result.content[0], types.TextContent)
    assert result.content[0].text == f"the call was ended after 0.1 s. {advice}"
    assert result.structured_content == {"error": "the call was ended after 0.1 s", "retryable": reads}
    assert observed == [("hangs", "failed")]
