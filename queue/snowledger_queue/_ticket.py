"""One ticket: what is known of a query that was asked for, and how it is read from ``state.db``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ._state import DamagedStateError
from ._stored import INTEGER, OPTIONAL_INTEGER, OPTIONAL_TEXT, TEXT, check_json, check_types

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Container, Iterable


STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")
"""How a ticket may stand; the last three are final."""


class Ticket(NamedTuple):
    """A query that was asked for. Times are in the form of ``ts``."""

    ticket_id: str
    """32 hex digits, random."""
    customer: str
    """The owner."""
    customers: tuple[str, ...]
    """Whose rows the result may hold; sorted. Who may not read all of them may not read the result."""
    template: str
    params: str
    """JSON."""
    query_hash: str
    query_tag: str
    status: str
    """One of ``STATUSES``."""
    submitted_at: str
    started_at: str | None
    """When its last run began."""
    finished_at: str | None
    byte_cap: int | None
    attempts: int
    """How often it was begun."""
    cancel_requested: bool
    position: int | None
    """How many queued tickets come before it; None when it is not queued."""
    rows_so_far: int
    columns: str | None
    """JSON: ``[{"name": …, "type": …}]``."""
    sample: str | None
    """JSON: a list of rows, each a list of values."""
    row_count: int | None
    bytes: int | None
    truncated: bool
    error: str | None
    """Why it failed, or why it was cancelled when its owner did not ask for that."""
    artifact: bool
    """Whether the whole result is kept in a file."""


SELECT = (
    "SELECT ticket_id, customer, customers, template, params, query_hash, query_tag, status,"
    " submitted_at, started_at, finished_at, byte_cap, attempts, cancel_requested,"
    " CASE status WHEN 'queued' THEN (SELECT count(*) FROM tickets AS other WHERE other.status = 'queued'"
    " AND (other.submitted_at, other.number) < (tickets.submitted_at, tickets.number)) END,"
    " rows_so_far, columns, sample, row_count, bytes, truncated, error, artifact FROM tickets "
)
"""Gives what ``to_ticket`` takes."""

_TYPES = (
    *(TEXT,) * 9,
    *(OPTIONAL_TEXT, OPTIONAL_TEXT, OPTIONAL_INTEGER, INTEGER, INTEGER, OPTIONAL_INTEGER, INTEGER),
    *(OPTIONAL_TEXT, OPTIONAL_TEXT, OPTIONAL_INTEGER, OPTIONAL_INTEGER, INTEGER, OPTIONAL_TEXT, INTEGER),
)
"""Of its columns."""

CANCEL = (
    "UPDATE tickets SET cancel_requested = 1, error = :reason, status = iif(status = 'queued', 'cancelled', status),"
    " finished_at = iif(status = 'queued', :now, NULL)"
    " WHERE status IN ('queued', 'running') AND NOT cancel_requested"
)
"""Ends what is queued; the uploader ends what is running."""


def to_ticket(row: tuple[object, ...]) -> Ticket:
    """Read a row of ``SELECT``. Raises ``DamagedStateError``."""
    check_types([row], *_TYPES)
    ticket = Ticket._make(row)
    for text in (ticket.params, ticket.columns, ticket.sample):
        if text is not None:
            check_json(text)
    return ticket._replace(
        customers=to_customers(ticket.customers),
        cancel_requested=bool(ticket.cancel_requested),
        truncated=bool(ticket.truncated),
        artifact=bool(ticket.artifact),
    )


def to_customers(text: object) -> tuple[str, ...]:
    """Read ``customers`` of a row. Raises ``DamagedStateError``."""
    customers = check_json(str(text))
    if not isinstance(customers, list) or not all(isinstance(customer, str) for customer in customers):
        raise DamagedStateError("the customers of a ticket cannot be decoded")
    return tuple(customers)


def readable(customers: Iterable[str], customer: str, allowed: Container[str]) -> bool:
    """Whether a result with rows of ``customers`` is for one who acts as ``customer`` and may read ``allowed`` too."""
    return all(one == customer or one in allowed for one in customers)


def find(run: sqlite3.Connection, condition: str, *values: object) -> Ticket | None:
    """The first ticket for which the condition (SQL, from ``WHERE`` on) holds."""
    row = run.execute(SELECT + condition, values).fetchone()
    return None if row is None else to_ticket(row)
