"""The tool ``get_result``: how a query stands, and what it gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mcp_types as types
import orjson

from ._queries import running_s
from ._submit_query import number
from ._tool import Call, Tool, object_schema

if TYPE_CHECKING:
    from snowledger_queue import Ticket

    from ._queries import Queries

MOST_WAIT_S = 20
"""Clients give up on a call after a minute, some after 30 s."""

ARTIFACT_PREFIX = "snowledger://artifacts/"

TICKET_ID = {
    "type": "string",
    "pattern": "^[0-9a-f]{32}$",
    "description": "As submit_query returned it, or as get_context lists it.",
}

STATUSES = ["queued", "running", "succeeded", "failed", "cancelled"]

_DEFINITION = types.Tool(
    name="get_result",
    title="Get the result of a query",
    description=(
        "Ask how a query from submit_query stands, and for its result: columns, at most 10 sample rows, how many rows "
        "there are in all, and the address of the whole result. With wait_s the call waits for the end of the query, "
        "up to 20 seconds; most take less than one. If the status is still queued or running, call again. "
        "succeeded, failed and cancelled are final: failed says why in error."
    ),
    input_schema=object_schema(
        {
            "ticket_id": TICKET_ID,
            "wait_s": {
                "type": "number",
                "minimum": 0,
                "maximum": MOST_WAIT_S,
                "default": 0,
                "description": "How many seconds to wait for the end of the query at most.",
                "examples": [10],
            },
        },
        required=["ticket_id"],
    ),
    output_schema=object_schema(
        {
            "ticket_id": {"type": "string"},
            "status": {"type": "string", "enum": STATUSES},
            "template": {"type": "string"},
            "query_hash": {"type": "string", "description": "For log_insight, as provenance_query_hash."},
            "submitted_at": {"type": "string", "description": "UTC with microseconds."},
            "position": {"type": "integer", "description": "queued: how many queries come before it."},
            "waits_for": {
                "type": "string",
                "description": "queued: what else keeps it from running, such as a warehouse that is away. Its time "
                "limit does not run meanwhile; call again later, or go on without it.",
            },
            "running_s": {"type": "number", "description": "running: for how many seconds."},
            "rows_so_far": {"type": "integer", "description": "running: rows of the result so far."},
            "cancel_requested": {"type": "boolean", "description": "running: whether it is being cancelled."},
            "columns": {
                "type": "array",
                "items": object_schema({"name": {"type": "string"}, "type": {"type": "string"}}, required=["name"]),
                "description": "succeeded: of the result, in order.",
            },
            "rows": {
                "type": "array",
                "items": {"type": "array"},
                "description": "succeeded: the first rows, at most 10; of each its values in the order of columns.",
            },
            "row_count": {"type": "integer", "description": "succeeded: rows of the whole result."},
            "bytes": {"type": "integer", "description": "succeeded: size of the whole result."},
            "truncated": {"type": "boolean", "description": "succeeded: whether a limit cut the whole result off."},
            "artifact": {
                "type": "string",
                "description": "succeeded: address of the whole result; absent when it is not kept any more.",
            },
            "error": {"type": ["string", "null"], "description": "failed, cancelled: why."},
        },
        required=["ticket_id", "status", "template", "query_hash", "submitted_at"],
    ),
    annotations=types.ToolAnnotations(
        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    ),
)


def get_result_tool(queries: Queries) -> Tool:
    """The tool.

    Its call raises:
        InvalidArgumentError: a wrong argument.
        TicketNotFoundError: no ticket has the id that the caller may see.
        snowledger_queue.StateError: tickets cannot be read.
    """

    async def run(call: Call) -> dict[str, object]:
        wait_s = number(call.arguments, "wait_s", MOST_WAIT_S)
        ticket = await queries.wait(call.caller.identity, call.arguments["ticket_id"], wait_s, call.progress)
        obstacle = await queries.obstacle() if ticket.status == "queued" else None
        return standing(ticket) | ({} if obstacle is None else {"waits_for": obstacle})

    return Tool(_DEFINITION, run)


def standing(ticket: Ticket) -> dict[str, object]:
    """What is told of a ticket."""
    told: dict[str, object] = {
        "ticket_id": ticket.ticket_id,
        "status": ticket.status,
        "template": ticket.template,
        "query_hash": ticket.query_hash,
        "submitted_at": ticket.submitted_at,
    }
    match ticket.status:
        case "queued":
            told["position"] = ticket.position
        case "running":
            told["running_s"] = running_s(ticket)
            told["rows_so_far"] = ticket.rows_so_far
            told["cancel_requested"] = ticket.cancel_requested
        case "succeeded":
            told["columns"] = orjson.loads(ticket.columns or "[]")
            told["rows"] = orjson.loads(ticket.sample or "[]")
            told["row_count"] = ticket.row_count
            told["bytes"] = ticket.bytes
            told["truncated"] = ticket.truncated
            if ticket.artifact:
                told["artifact"] = f"{ARTIFACT_PREFIX}{ticket.ticket_id}"
        case _:
            told["error"] = ticket.error
    return told
