"""What a tool is, and the answers that every tool gives in the same form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mcp_types as types
import orjson

from snowledger_queue import InvalidEventError, QueueError

from ._errors import InvalidArgumentError, ServerError, UnexpectedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from snowledger_queue import Origin, QueueWriter

    from ._identity import Identity


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call, with its arguments checked for names only."""

    arguments: Mapping[str, object]
    identity: Identity
    query_tag: str
    """Marks the call in logs and in the event that it wrote: ``cdesk_`` and 8 hex digits."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool's definition as the client sees it, and what runs when it is called."""

    definition: types.Tool
    run: Callable[[Call], Awaitable[dict[str, object]]]

    @property
    def properties(self) -> Mapping[str, object]:
        """The accepted arguments."""
        accepted: Mapping[str, object] = self.definition.input_schema["properties"]
        return accepted


@dataclass(frozen=True, slots=True)
class Journal:
    """Where tools write events: the session's writer and origin."""

    writer: QueueWriter
    origin: Origin


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


def answer(content: dict[str, object]) -> types.CallToolResult:
    """The result of a call that worked, as structured content and as text: some clients show only one of them."""
    text = orjson.dumps(content).decode()
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], structured_content=content)


def failure(error: ServerError | QueueError) -> types.CallToolResult:
    """The result of a call that did not: what was wrong, what is accepted, whether to retry."""
    if isinstance(error, InvalidEventError | InvalidArgumentError):
        advice = "Nothing was stored. Correct the argument and call again."
    elif isinstance(error, UnexpectedError):
        advice = "Whether anything was stored is not known. Repeat the call only with the idempotency_key it had."
    elif error.transient:
        advice = "Nothing was acknowledged. Repeat the call unchanged in a second."
    else:
        advice = "Nothing was stored. Repeating the call unchanged will not help."
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=f"{str(error).rstrip('.')}. {advice}")],
        structured_content={"error": str(error), "retryable": error.transient},
        is_error=True,
    )


def _nullable(schema: object) -> bool:
    """Whether the schema accepts null (one without a type accepts anything)."""
    return isinstance(schema, dict) and "type" not in schema
