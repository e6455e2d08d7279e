"""The tool ``cancel_query``: ends a query that is not needed any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mcp_types as types

from ._get_result import STATUSES, TICKET_ID
from ._tool import Call, Tool, object_schema

if TYPE_CHECKING:
    from ._queries import Queries

_DEFINITION = types.Tool(
    name="cancel_query",
    title="Cancel a query",
    description=(
        "Stop a query from submit_query that is not needed any more. A queued one is cancelled at once; a running one "
        "is stopped in the warehouse within a second, and its status is running until then. A finished one stays as "
        "it is."
    ),
    input_schema=object_schema({"ticket_id": TICKET_ID}, required=["ticket_id"]),
    output_schema=object_schema(
        {
            "ticket_id": {"type": "string"},
            "status": {"type": "string", "enum": STATUSES, "description": "What it is now."},
            "cancel_requested": {"type": "boolean", "description": "Whether it is or was stopped on request."},
        },
        required=["ticket_id", "status", "cancel_requested"],
    ),
    annotations=types.ToolAnnotations(
        read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
    ),
)


def cancel_query_tool(queries: Queries) -> Tool:
    """The tool.

    Its call raises:
        TicketNotFoundError: no ticket of this customer has the id.
        snowledger_queue.StateError: it could not be noted.
    """

    async def run(call: Call) -> dict[str, object]:
        ticket = await queries.cancel(call.caller.identity, call.arguments["ticket_id"])
        return {
            "ticket_id": ticket.ticket_id,
            "status": ticket.status,
            "cancel_requested": ticket.cancel_requested,
        }

    return Tool(_DEFINITION, run)
