"""The tool ``get_context``: what is known about a customer, at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mcp_types as types

from snowledger_queue import check_text

from ._context import read_cursor
from ._contexts import ContextQuery
from ._errors import InvalidArgumentError
from ._tool import Call, Tool, object_schema

if TYPE_CHECKING:
    from ._contexts import Contexts
    from ._encoded_answers import Answer

LEAST_BYTES, DEFAULT_BYTES, MOST_BYTES = 512, 16 * 1024, 1024 * 1024
"""From the empty lists of a customer with a short name, over some 4,000 tokens, to more than a model reads at once."""

_MAX_PREFIX_CHARACTERS = 255
"""As long as a subject may be."""

_TIME = {"type": "string", "description": "UTC with microseconds."}
_OPTIONAL_TIME = {"type": ["string", "null"]}


def _list_of(properties: dict[str, Any], optional: tuple[str, ...], description: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "array", "items": object_schema(properties, required=required), "description": description}


_DEFINITION = types.Tool(
    name="get_context",
    title="Recall what is known",
    description=(
        "Recall what earlier conversations learnt and did: the insights that hold now (value, the hash of the query "
        "behind it, whether that is verified, when it was recorded and how long it holds), how often each activity "
        "happened in the last 24 hours and 7 days, the last queries, and the last events. Call it at the start of a "
        "conversation and before you ask for something that may be known already. Answers in milliseconds from local "
        "memory; what was just logged is in it. Verified insights come first. If the answer is truncated, ask for more "
        "with subject_prefix, a larger max_bytes, or cursor set to its next_cursor."
    ),
    input_schema=object_schema(
        {
            "customer_id": {
                "type": "string",
                "maxLength": 255,
                "description": "About whom. Leave it out for your own customer; others must be allowed.",
            },
            "max_bytes": {
                "type": "integer",
                "minimum": LEAST_BYTES,
                "maximum": MOST_BYTES,
                "default": DEFAULT_BYTES,
                "description": "The answer is never larger; what is least useful is left out first.",
            },
            "subject_prefix": {
                "type": "string",
                "minLength": 1,
                "maxLength": _MAX_PREFIX_CHARACTERS,
                "description": "Only insights whose subject begins with this, and nothing else.",
                "examples": ["customer/", "product/pro"],
            },
            "cursor": {
                "type": "string",
                "description": "next_cursor of the page before: only the insights that follow.",
            },
        },
        required=[],
    ),
    output_schema=object_schema(
        {
            "customer": {"type": "string"},
            "as_of": {
                "type": ["string", "null"],
                "description": "When this was last compared with the warehouse; null: not yet.",
            },
            "age_ms": {"type": ["integer", "null"], "description": "Milliseconds since then."},
            "stale": {
                "type": "boolean",
                "description": "Older than it should be. A refresh is under way; ask again in a second if it matters.",
            },
            "truncated": {"type": "boolean", "description": "Whether something was left out."},
            "left_out": object_schema(
                {
                    name: {"type": "integer"}
                    for name in ("insights", "insight_values", "tickets", "activity_counts", "recent_events")
                },
                required=["insights", "insight_values", "tickets", "activity_counts", "recent_events"],
            ),
            "next_cursor": {
                "type": ["string", "null"],
                "description": "For the argument cursor, when insights were left out.",
            },
            "insights": _list_of(
                {
                    "subject": {"type": "string"},
                    "metric": {"type": "string"},
                    "value": {"description": "Any JSON."},
                    "value_bytes": {"type": "integer", "description": "In place of a value that is too large."},
                    "query_hash": {"type": "string"},
                    "verified": {"type": "boolean"},
                    "recorded_at": _TIME,
                    "valid_from": _OPTIONAL_TIME,
                    "valid_to": _OPTIONAL_TIME,
                    "insight_id": {"type": "string"},
                },
                ("value", "value_bytes"),
                "The latest of each subject and metric that holds now; verified ones first, then the newest.",
            ),
            "tickets": _list_of(
                {
                    "ticket_id": {"type": "string"},
                    "template": {"type": "string"},
                    "status": {"type": "string"},
                    "query_hash": {"type": "string"},
                    "submitted_at": _TIME,
                    "row_count": {"type": "integer", "description": "When it succeeded."},
                },
                ("row_count",),
                "Queries that are open or of the last 24 hours, for get_result: open ones first, then the newest; at "
                "most 10, and only of your own customer and over customers that you may read.",
            ),
            "activity_counts": _list_of(
                {
                    "activity": {"type": "string"},
                    "last_24_h": {"type": "integer"},
                    "last_7_d": {"type": "integer"},
                },
                (),
                "The most frequent first.",
            ),
            "recent_events": _list_of(
                {
                    "ts": _TIME,
                    "event_id": {"type": "string"},
                    "activity": {"type": "string"},
                    "link": {"type": "string"},
                    "feature_json": {"type": "object", "description": "Left out when it is large."},
                },
                ("link", "feature_json"),
                "The newest first.",
            ),
        },
        required=[
            *("customer", "as_of", "age_ms", "stale", "truncated", "left_out", "next_cursor"),
            *("insights", "tickets", "activity_counts", "recent_events"),
        ],
    ),
    annotations=types.ToolAnnotations(
        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    ),
)


def get_context_tool(contexts: Contexts) -> Tool:
    """The tool, answering from ``contexts``.

    Its call raises:
        InvalidArgumentError, snowledger_queue.InvalidEventError: a wrong argument.
        NotAllowedError: a customer that the identity may not touch.
        TimeLimitError: another reader does not come to an end.
    """

    async def run(call: Call) -> Answer:
        arguments = call.arguments
        customer = call.caller.identity.customer_for(arguments.get("customer_id"))
        max_bytes = _size(arguments.get("max_bytes"))
        prefix = _prefix(arguments.get("subject_prefix"))
        cursor = arguments.get("cursor")
        after = None if cursor is None else read_cursor(cursor)
        allowed = call.caller.identity.allowed_with(customer)
        return await contexts.get(ContextQuery(customer, max_bytes, prefix, after, allowed))

    return Tool(_DEFINITION, run, bounded=True)


def _size(value: object) -> int:
    if value is None:
        return DEFAULT_BYTES
    if isinstance(value, bool) or not isinstance(value, int) or not LEAST_BYTES <= value <= MOST_BYTES:
        raise InvalidArgumentError("max_bytes", f"accepted is a whole number from {LEAST_BYTES} to {MOST_BYTES}")
    return value


def _prefix(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_PREFIX_CHARACTERS:
        raise InvalidArgumentError("subject_prefix", f"accepted is text of 1 to {_MAX_PREFIX_CHARACTERS} characters")
    check_text(value, "subject_prefix")
    return value
