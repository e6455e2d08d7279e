"""A customer's tickets in its context: those that are open, and those of the last 24 hours."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ._stored import INTEGER, OPTIONAL_INTEGER, TEXT, check_types
from ._ticket import readable, to_customers

if TYPE_CHECKING:
    import sqlite3

CONTEXT_TICKETS = 10
"""Enough to go on with what an earlier conversation asked for."""

_IN_SHORT = "SELECT ticket_id, template, status, query_hash, submitted_at, row_count FROM tickets"

_COUNT = "SELECT customers, count(*) FROM tickets"

_OPEN = "status IN ('queued', 'running')"

_BY_STATUS = f"INDEXED BY tickets_in_status WHERE {_OPEN}"

_NEWEST = "ORDER BY submitted_at DESC, number DESC LIMIT ?"


class ContextTicket(NamedTuple):
    """A ticket in short."""

    ticket_id: str
    template: str
    status: str
    query_hash: str
    submitted_at: str
    row_count: int | None
    """None unless it succeeded."""


def context_tickets(
    run: sqlite3.Connection, customer: str, allowed: frozenset[str] | None, since: str
) -> tuple[list[ContextTicket], int, int]:
    """At most ``CONTEXT_TICKETS`` tickets, open ones first, then the newest; how many there are; how many were counted.

    They are those that are open, and those submitted at ``since`` or later, that ``Tickets.get`` gives; with None none.
    Counted are also those that it does not give.
    """
    if allowed is None:
        return [], 0, 0
    # Each by an index: a customer may have thousands of tickets, and rows are large. Sets of customers are few.
    counts = run.execute(
        f"{_COUNT} {_BY_STATUS} AND customer = ? AND submitted_at < ? GROUP BY customers", (customer, since)
    ).fetchall()
    counts += run.execute(
        f"{_COUNT} WHERE customer = ? AND submitted_at >= ? GROUP BY customers", (customer, since)
    ).fetchall()
    check_types(counts, TEXT, INTEGER)
    known = {text for text, _ in counts if readable(to_customers(text), customer, allowed)}
    counted = sum(number for _, number in counts)
    if not known:
        return [], 0, counted
    within = f"customers IN ({', '.join('?' * len(known))})"
    rows = run.execute(
        f"{_IN_SHORT} {_BY_STATUS} AND customer = ? AND {within} {_NEWEST}", (customer, *known, CONTEXT_TICKETS)
    ).fetchall()
    rows += run.execute(
        f"{_IN_SHORT} WHERE customer = ? AND submitted_at >= ? AND NOT {_OPEN} AND {within} {_NEWEST}",
        (customer, since, *known, CONTEXT_TICKETS - len(rows)),
    ).fetchall()
    check_types(rows, TEXT, TEXT, TEXT, TEXT, TEXT, OPTIONAL_INTEGER)
    count = sum(number for text, number in counts if text in known)
    return [ContextTicket(*row) for row in rows], count, counted
