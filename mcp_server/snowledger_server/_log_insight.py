"""The tool ``log_insight``: one insight atom, the only authoritative recall."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import mcp_types as types

from snowledger_queue import InvalidEventError, check_text, new_event, parse_timestamp

from ._backpressure import BACKPRESSURE, told
from ._errors import InvalidArgumentError
from ._tool import Call, Tool, object_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._journal import Journal
    from ._queries import Queries

_HASH = re.compile(r"[0-9a-f]{64}")

_MAX_NAME_CHARACTERS = 255
"""Subject and metric are keys of the recall: a later atom with the same two replaces the earlier."""

_DEFINITION = types.Tool(
    name="log_insight",
    title="Record an insight",
    description=(
        "Remember one finding for later conversations: the value of a metric of a subject, with the query that "
        "produced it. A newer insight for the same subject and metric replaces the older one. Returns in "
        "milliseconds, once it is on stable storage. The answer's verified says whether the query hash belongs to a "
        "query that this customer ran to the end through snowledger; an unverified insight is kept and marked."
    ),
    input_schema=object_schema(
        {
            "subject": {
                "type": "string",
                "minLength": 1,
                "maxLength": _MAX_NAME_CHARACTERS,
                "description": "What is measured.",
                "examples": ["customer/acme", "product/pro-plan"],
            },
            "metric": {
                "type": "string",
                "minLength": 1,
                "maxLength": _MAX_NAME_CHARACTERS,
                "description": "Which property of it.",
                "examples": ["mrr_usd", "churn_rate_30d"],
            },
            "value": {
                "description": "Its value: any JSON, at most 256 KiB.",
                "examples": [1250, {"p95_ms": 12.5}],
            },
            "provenance_query_hash": {
                "type": "string",
                "pattern": "^[0-9a-f]{64}$",
                "description": "The query_hash (SHA-256, 64 hex digits) of the query that produced the value.",
            },
            "customer_id": {
                "type": "string",
                "maxLength": 255,
                "description": "Whose insight it is. Leave it out for your own customer; others must be allowed.",
            },
            "valid_from": {
                "type": "string",
                "description": "ISO 8601 time from which the value holds; without it, now.",
                "examples": ["2026-11-01T00:00:00Z"],
            },
            "valid_to": {
                "type": "string",
                "description": "ISO 8601 time after which it no longer holds; without it, until replaced.",
            },
        },
        required=["subject", "metric", "value", "provenance_query_hash"],
    ),
    output_schema=object_schema(
        {
            "event_id": {"type": "string", "description": "The atom's id, 32 hex digits."},
            "verified": {
                "type": "boolean",
                "description": "Whether the hash belongs to a query that this customer ran to the end.",
            },
            "backpressure": BACKPRESSURE,
        },
        required=["event_id", "verified"],
    ),
    annotations=types.ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
    ),
)


def log_insight_tool(journal: Journal, queries: Queries) -> Tool:
    """The tool, writing to the journal. Its call raises what ``log_event_tool`` names."""

    async def run(call: Call) -> dict[str, object]:
        arguments = call.arguments
        valid_from = _time(arguments, "valid_from")
        valid_to = _time(arguments, "valid_to")
        if valid_from is not None and valid_to is not None and valid_to <= valid_from:
            raise InvalidArgumentError("valid_to", "must be later than valid_from")
        query_hash = arguments["provenance_query_hash"]
        if not isinstance(query_hash, str) or not _HASH.fullmatch(query_hash):
            raise InvalidArgumentError("provenance_query_hash", "accepted are 64 lower-case hex digits (a SHA-256)")
        subject, metric = _name(arguments, "subject"), _name(arguments, "metric")
        customer = call.caller.identity.customer_for(arguments.get("customer_id"))
        verified = await queries.finished(call.caller.identity, customer, query_hash)
        event = new_event(
            call.caller.origin,
            activity="cdesk.insight_recorded",
            customer=customer,
            # The same keys on every row of an activity (ActivitySchema v2.0), so absent ones are null.
            feature_json={
                "subject": subject,
                "metric": metric,
                "value": arguments["value"],
                "provenance_query_hash": query_hash,
                "valid_from": valid_from,
                "valid_to": valid_to,
                "verified": verified,
            },
            query_tag=call.query_tag,
        )
        await journal.append(event)
        return {"event_id": event.activity_id, "verified": verified, **told(journal.pressure)}

    repeating = "Repeating the call stores the insight again, perhaps twice then; the later one counts."
    return Tool(_DEFINITION, run, repeating=repeating)


def _name(arguments: Mapping[str, object], field: str) -> str:
    value = arguments[field]
    if not isinstance(value, str) or not len(value.strip()) > 0 or len(value) > _MAX_NAME_CHARACTERS:
        raise InvalidArgumentError(field, f"accepted is text of 1 to {_MAX_NAME_CHARACTERS} characters")
    check_text(value, field)
    return value


def _time(arguments: Mapping[str, object], field: str) -> str | None:
    value = arguments.get(field)
    if value is None:
        return None
    try:
        return parse_timestamp(value)
    except InvalidEventError as error:
        raise InvalidArgumentError(field, error.problem) from None
