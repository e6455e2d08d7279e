"""Tools' answers that go onto the wire as the bytes they are.

The SDK copies structured content twice, member by member, before it is encoded. For a context of 16 KiB that is three
quarters of what the call costs. So where the transport encodes with orjson, a tool leaves its encoded answer in the
holder, and the middleware puts it into the result when the SDK is done with the rest.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import mcp_types as types
import orjson

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext


class Answer(NamedTuple):
    """The answer of a call that worked, encoded."""

    content: bytes
    """A JSON object."""
    text: bytes
    """The same as a JSON string: some clients show text alone."""


_holder: ContextVar[list[Answer] | None] = ContextVar("encoded answer", default=None)

_FILLED_IN = types.CallToolResult(content=[], structured_content={})
"""What the SDK is given to check where the middleware puts in the answer."""


async def encoded_answers(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Server middleware (``mcp.server.context.ServerMiddleware``) for transports that encode with orjson."""
    if ctx.method != "tools/call":
        return await call_next(ctx)
    holder: list[Answer] = []
    token = _holder.set(holder)
    try:
        result = await call_next(ctx)
    finally:
        _holder.reset(token)
    if holder and isinstance(result, dict):
        result["content"] = [{"type": "text", "text": orjson.Fragment(holder[0].text)}]
        result["structuredContent"] = orjson.Fragment(holder[0].content)
    return result


def encode_answer(content: dict[str, object]) -> Answer:
    """An answer that is put together anew for each call."""
    encoded = orjson.dumps(content)
    return Answer(encoded, orjson.dumps(encoded.decode()))


def tool_result(answer: Answer) -> types.CallToolResult:
    """The result that says the answer, or an empty one that the middleware fills in."""
    holder = _holder.get()
    if holder is None:
        text = types.TextContent(type="text", text=answer.content.decode())
        return types.CallToolResult(content=[text], structured_content=orjson.loads(answer.content))
    holder.append(answer)
    return _FILLED_IN
