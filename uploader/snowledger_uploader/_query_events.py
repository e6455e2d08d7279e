"""What is logged of a query: activities of the customer who asked it, under the tag of its call.

Of a query whose result not everybody may read who acts as that customer, they are snowledger's own: the customer's
contexts and templates are for all of them, and would tell what ``get_result`` does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from snowledger_queue import OPERATIONAL_CUSTOMER, derived_id, new_event

from ._artifacts import FORMAT
from ._budget import credits_of

if TYPE_CHECKING:
    from pathlib import Path

    from snowledger_queue import Event, Origin, QueryResult, Ticket


class End(NamedTuple):
    """How a query ended."""

    status: str
    """``succeeded``, ``failed``, ``cancelled``; or ``released``: the uploader ends first and another will run it."""
    error: str | None = None
    result: QueryResult | None = None
    path: Path | None = None
    """Where the result is kept."""


def executed(origin: Origin, ticket: Ticket) -> list[Event]:
    """A run begins. The same run has the same id, and so is in the warehouse once."""
    return [_event(origin, ticket, "cdesk.sql_executed", {"attempt": ticket.attempts}, str(ticket.attempts))]


def completed(origin: Origin, ticket: Ticket, end: End, seconds: float) -> list[Event]:
    """A run has ended, and its result is kept if there is one. ``seconds`` are of this run."""
    result = end.result
    features = {
        "attempt": ticket.attempts,
        "status": end.status,
        "ms": round(seconds * 1000),
        "rows": result and result.row_count,
        "bytes": result and result.bytes,
        "truncated": result is not None and result.truncated,
        "credits_estimate": credits_of(seconds),
    }
    if end.error is not None:
        features["error"] = end.error
    events = [_event(origin, ticket, "cdesk.sql_completed", features, str(ticket.attempts))]
    if result is not None:
        artifact = {
            "artifact_id": ticket.ticket_id,
            "format": FORMAT,
            "rows": result.row_count,
            "bytes": result.bytes,
            "path": str(end.path),
        }
        events.append(_event(origin, ticket, "cdesk.artifact_created", artifact))
    return events


def _event(origin: Origin, ticket: Ticket, activity: str, features: dict[str, object], *which: str) -> Event:
    common = {
        "ticket_id": ticket.ticket_id,
        "template": ticket.template,
        "query_hash": ticket.query_hash,
        "query_tag": ticket.query_tag,
    }
    customer = ticket.customer
    if ticket.customers != (customer,):
        common["customer"], customer = customer, OPERATIONAL_CUSTOMER
    return new_event(
        origin,
        activity=activity,
        customer=customer,
        feature_json=common | features,
        activity_id=derived_id("query", activity, ticket.ticket_id, *which),
        query_tag=ticket.query_tag,
    )
