"""Tools' answers that go onto the wire as the bytes they are.

The SDK copies structured content twice, member by member, before it is encoded. For a context of 16 KiB that is three
quarters of what the call costs. So where the transport encodes with orjson, a tool leaves its encoded answer in the
holder, and the middleware puts it into the result. What the SDK puts around an answer is the same for all calls of a
protocol version, so it is made once; from then on a call that worked leaves the SDK when its handler is done.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
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


class _Done(Exception):  # noqa: N818 - no error
    """The answer is complete; ends what the SDK would do with it."""


@dataclass(slots=True)
class _Holder:
    framed: bool
    """Whether it is known what the SDK puts around an answer."""
    answer: Answer | None = None


_holder: ContextVar[_Holder | None] = ContextVar("encoded answer", default=None)

_FILLED_IN = types.CallToolResult(content=[], structured_content={})
"""What the SDK is given to check where the middleware puts in the answer."""


class EncodedAnswers:
    """Server middleware (``mcp.server.context.ServerMiddleware``) for transports that encode with orjson."""

    def __init__(self) -> None:
        self._frames: dict[str, dict[str, Any]] = {}
        """By protocol version."""

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Call the tool."""
        if ctx.method != "tools/call":
            return await call_next(ctx)
        frame = self._frames.get(ctx.protocol_version)
        holder = _Holder(framed=frame is not None)
        token = _holder.set(holder)
        try:
            result = await call_next(ctx)
        except _Done:
            result = frame
        finally:
            _holder.reset(token)
        if holder.answer is None or not isinstance(result, dict):
            return result
        self._frames[ctx.protocol_version] = result
        return {
            **result,
            "content": [{"type": "text", "text": orjson.Fragment(holder.answer.text)}],
            "structuredContent": orjson.Fragment(holder.answer.content),
        }


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
    holder.answer = answer
    return _FILLED_IN


def finished(result: types.CallToolResult) -> types.CallToolResult:
    """What a handler returns: the result, if the SDK has anything to do with it."""
    holder = _holder.get()
    if holder is not None and holder.framed and result is _FILLED_IN:
        raise _Done
    return result
