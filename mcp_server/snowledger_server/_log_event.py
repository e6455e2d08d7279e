"""The tool ``log_event``: one activity into the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mcp_types as types

from snowledger_queue import LOW_VALUE, RESERVED_ACTIVITIES, SAMPLE_RATE, kept_by_sample, may_sample, new_event

from ._backpressure import BACKPRESSURE, told
from ._errors import InvalidArgumentError
from ._tool import Call, Tool, object_schema

if TYPE_CHECKING:
    from ._journal import Journal

ACTIVITIES = (
    "session_started",
    "session_ended",
    "user_asked",
    "claude_responded",
    "tool_called",
    "sql_executed",
    "sql_completed",
    "file_read",
    "file_written",
    "context_refreshed",
    "artifact_created",
    "error_encountered",
    "retry_attempted",
    "fallback_triggered",
)
"""Names that the model is told; any other name in the namespace is accepted as well."""

_DEFINITION = types.Tool(
    name="log_event",
    title="Log an activity",
    description=(
        "Record one thing that happened in this conversation (a question asked, a tool called, a query run, a file "
        "read, an error) in the company's audit trail. Returns in milliseconds, once the event is on stable storage; "
        "it is in the warehouse seconds later. Use it for facts about what happened; use log_insight for a number or "
        "finding worth recalling. When you retry, send the same idempotency_key: the event is then stored once. "
        "While too much waits for the warehouse, the answer has backpressure: of frequent telemetry "
        f"({', '.join(sorted(LOW_VALUE))}) one event in ten is then kept, and sampled_out tells that this one was not. "
        "Do not send it again, and log only what matters until backpressure is gone."
    ),
    input_schema=object_schema(
        {
            "activity": {
                "type": "string",
                "pattern": r"^cdesk\.[a-z0-9_]+(\.[a-z0-9_]+)*$",
                "maxLength": 128,
                "description": "What happened, as cdesk.verb_noun. Known: "
                + ", ".join(f"cdesk.{name}" for name in ACTIVITIES)
                + ". Other names in cdesk.* are accepted; use the same name and the same feature keys every time.",
                "examples": ["cdesk.user_asked", "cdesk.tool_called"],
            },
            "feature_json": {
                "type": "object",
                "description": "The details, a flat JSON object of at most 256 KiB; the same keys for an activity.",
                "examples": [{"tool": "search", "latency_ms": 412, "ok": True}],
            },
            "link": {"type": "string", "maxLength": 2048, "description": "URL of what the event is about."},
            "revenue_impact": {
                "type": "number",
                "description": "Money gained or lost by it, in the company's one currency.",
            },
            "customer_id": {
                "type": "string",
                "maxLength": 255,
                "description": "Whom it is about. Leave it out for your own customer; others must be allowed.",
            },
            "idempotency_key": {
                "type": "string",
                "minLength": 1,
                "maxLength": 255,
                "description": "A text that names this event among all of the customer's, such as a UUID; the same key "
                "twice, in this session or another, is one event.",
            },
        },
        required=["activity", "feature_json"],
    ),
    output_schema=object_schema(
        {
            "event_id": {"type": "string", "description": "The event's activity_id, 32 hex digits."},
            "ts": {"type": "string", "description": "When it was recorded, UTC with microseconds."},
            "backpressure": BACKPRESSURE,
            "sampled_out": {
                "type": "boolean",
                "description": "True when the event was left out by sampling: this call stored nothing.",
            },
        },
        required=["event_id", "ts"],
    ),
    annotations=types.ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
    ),
)


def log_event_tool(journal: Journal) -> Tool:
    """The tool, writing to the journal.

    Its call raises:
        InvalidArgumentError, snowledger_queue.InvalidEventError: a wrong argument.
        NotAllowedError: a customer that the identity may not touch.
        snowledger_queue.QueueFullError: there is no room for the event.
        snowledger_queue.QueueWriteError: the event is not on stable storage.
    """

    async def run(call: Call) -> dict[str, object]:
        arguments = call.arguments
        activity = arguments["activity"]
        reason = RESERVED_ACTIVITIES.get(activity) if isinstance(activity, str) else None
        if reason is not None:
            raise InvalidArgumentError("activity", f"{activity} {reason}")
        features, revenue_impact = arguments["feature_json"], arguments.get("revenue_impact")
        sampled = journal.pressure.state == "sampling" and may_sample(activity, features, revenue_impact)
        event = new_event(
            call.caller.origin,
            activity=activity,
            customer=call.caller.identity.customer_for(arguments.get("customer_id")),
            feature_json=features,
            link=arguments.get("link"),
            revenue_impact=revenue_impact,
            idempotency_key=arguments.get("idempotency_key"),
            query_tag=call.query_tag,
            sample_rate=SAMPLE_RATE if sampled else None,
        )
        answer: dict[str, object] = {"event_id": event.activity_id, "ts": event.ts}
        if sampled and not kept_by_sample(event.activity_id, SAMPLE_RATE):
            journal.leave_out()
            answer["sampled_out"] = True
        else:
            await journal.append(event)
        return {**answer, **told(journal.pressure)}

    return Tool(
        _DEFINITION,
        run,
        repeating="Repeat the call only with the idempotency_key it had.",
        bounded=True,  # the queue's writer answers in time
    )
