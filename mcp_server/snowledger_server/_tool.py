"""What a tool is, and the answers that every tool gives in the same form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import mcp_types as types

from snowledger_queue import InvalidEventError, QueueError, QueueFullError, UncertainWriteError

from ._encoded_answers import Answer, encode_answer, tool_result
from ._errors import InvalidArgumentError, ServerError, TimeLimitError, UnexpectedError, told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ._identity import Caller


CALL_S = 30.0
"""Longest call: what get_result may wait, and half as much again. Clients give up after a minute."""

OUTCOMES = ("ok", "refused", "unavailable", "failed", "cancelled")
"""How a call may end: answered; the caller has to change something; the same call may work later; a defect of ours; or
the client gave it up."""

Observe: TypeAlias = "Callable[[str, str, float], None]"
"""Hears which tool was called, how that ended (one of ``OUTCOMES``) and how many seconds it took."""


def nobody(_tool: str, _outcome: str, _seconds: float) -> None:
    """Observes nothing."""


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call, with its arguments checked for names only."""

    arguments: Mapping[str, object]
    caller: Caller
    query_tag: str
    """Marks the call in logs and in the event or ticket that it wrote: ``cdesk_`` and 8 hex digits."""
    progress: Callable[[float, str], Awaitable[None]]
    """Tells the client how far the call is, by a number that grows and in words; nothing when it did not ask."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool's definition as the client sees it, and what runs when it is called."""

    definition: types.Tool
    run: Callable[[Call], Awaitable[dict[str, object] | Answer]]
    """Returns the answer, a JSON object."""
    repeating: str = "Repeating the call does no harm."
    """What a client is told of a call that was perhaps carried out."""
    bounded: bool = False
    """Whether it limits its own waits. A limit for each call costs some percent of an answer that is in memory."""

    @property
    def reads(self) -> bool:
        """Whether it only reads."""
        hints = self.definition.annotations
        return hints is not None and hints.read_only_hint is True

    @property
    def properties(self) -> Mapping[str, object]:
        """The accepted arguments."""
        accepted: Mapping[str, object] = self.definition.input_schema["properties"]
        return accepted


def object_schema(properties: dict[str, Any], *, required: list[str]) -> dict[str, Any]:
    """A closed JSON Schema 2020-12 object (no top-level combinators: some clients refuse them)."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def check_names(tool: Tool, arguments: Mapping[str, object]) -> None:
    """Check that every argument is known and none that is required is missing.

    Raises:
        InvalidArgumentError: naming the argument and what is accepted.
    """
    for name in arguments:
        if name not in tool.properties:
            shown = ascii(name)[1:-1][:100]
            raise InvalidArgumentError(shown, f"unknown argument; accepted are {', '.join(tool.properties)}")
    for name in tool.definition.input_schema["required"]:
        if arguments.get(name) is None and not (name in arguments and _nullable(tool.properties[name])):
            required = ", ".join(tool.definition.input_schema["required"])
            raise InvalidArgumentError(name, f"missing; required are {required}")


def answer(content: dict[str, object] | Answer) -> types.CallToolResult:
    """The result of a call that worked, as structured content and as text: some clients show only one of them."""
    return tool_result(content if isinstance(content, Answer) else encode_answer(content))


def failure(error: ServerError | QueueError, tool: Tool) -> types.CallToolResult:
    """The result of a call that did not: what was wrong, what is accepted, whether to retry."""
    # A disk that hung may answer later; who wrote cannot know what became of it.
    transient = error.transient or (tool.reads and isinstance(error, TimeLimitError))
    if isinstance(error, InvalidEventError | InvalidArgumentError):
        stored, advice = "Nothing was stored. ", "Correct the argument and call again."
    elif isinstance(error, UnexpectedError | UncertainWriteError) and not tool.reads:
        stored, advice = "Whether anything was stored is not known. ", tool.repeating
    elif isinstance(error, QueueFullError):
        stored, advice = "Nothing was stored. ", f"Repeat the call unchanged in {error.retry_after_s} s."
    elif transient:
        stored, advice = "Nothing was acknowledged. ", "Repeat the call unchanged in a second."
    else:
        stored, advice = "Nothing was stored. ", "Repeating the call unchanged will not help."
    if tool.reads:
        stored = ""  # which goes without saying
    content: dict[str, object] = {"error": told(error), "retryable": transient}
    if isinstance(error, QueueFullError):
        content["retry_after_s"] = error.retry_after_s
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=f"{told(error).rstrip('.')}. {stored}{advice}")],
        structured_content=content,
        is_error=True,
    )


def _nullable(schema: object) -> bool:
    """Whether the schema accepts null (one without a type accepts anything)."""
    return isinstance(schema, dict) and "type" not in schema
