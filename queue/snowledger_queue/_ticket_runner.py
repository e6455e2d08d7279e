"""Tickets as the uploader uses them: taking the next one, saying how far it is and how it ended."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import orjson

from ._ticket import Ticket, find
from ._ticket_link import MakingTicketLink
from ._tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Collection

    from ._spool import Spool

MAX_ATTEMPTS = 2
"""A query during which the uploader is killed twice is likely the reason."""

_WAIT_S = 5.0
"""A result is not given up because contexts are being folded at the time."""


class QueryResult(NamedTuple):
    """What a query gave. See ``Ticket``."""

    columns: str
    sample: str
    row_count: int
    bytes: int
    truncated: bool
    artifact: bool


class RunnerTickets(Tickets):
    """The tickets as the one uploader of a spool sees them, which makes ``state.db`` when it is missing or bad.

    What ends a ticket tells whether it did: one that is not running any more stays as it is.
    """

    def __init__(self, spool: Spool) -> None:
        super().__init__(spool)
        self._writes = MakingTicketLink(spool, _WAIT_S)

    def recover(self, now: str, running: Collection[str] = ()) -> int:
        """Deal with the tickets that nobody runs, under the lock of the uploader; how many.

        That is all that are running but those that this uploader runs, ``running``: a dead one began them, or they are
        of another ``state.db`` that was put in place. They are queued again once, or cancelled when that was asked for.
        Takes microseconds and writes nothing when there are none.
        """
        own = orjson.dumps(list(running)).decode()
        with self._writes.writing() as run:
            cancelled = run.execute(
                "UPDATE tickets SET status = 'cancelled', finished_at = ? WHERE status = 'running' AND cancel_requested"
                " AND ticket_id NOT IN (SELECT value FROM json_each(?))",
                (now, own),
            )
            failed = run.execute(
                "UPDATE tickets SET status = 'failed', finished_at = ?, error = ? WHERE status = 'running'"
                " AND attempts >= ? AND ticket_id NOT IN (SELECT value FROM json_each(?))",
                (now, "the uploader was stopped twice while it ran", MAX_ATTEMPTS, own),
            )
            again = run.execute(
                "UPDATE tickets SET status = 'queued', started_at = NULL WHERE status = 'running'"
                " AND ticket_id NOT IN (SELECT value FROM json_each(?))",
                (own,),
            )
            return cancelled.rowcount + failed.rowcount + again.rowcount

    def claim(self, now: str) -> Ticket | None:
        """Begin with the oldest queued ticket; None when there is none."""
        with self._writes.writing() as run:
            ticket = find(run, "WHERE status = 'queued' ORDER BY submitted_at, number LIMIT 1")
            if ticket is None:
                return None
            run.execute(
                "UPDATE tickets SET status = 'running', started_at = ?, attempts = attempts + 1, rows_so_far = 0"
                " WHERE ticket_id = ?",
                (now, ticket.ticket_id),
            )
            return find(run, "WHERE ticket_id = ?", ticket.ticket_id)

    def progress(self, ticket_id: str, rows: int) -> None:
        """Note how many rows there are so far."""
        with self._writes.writing() as run:
            # Nothing is written when nothing is new: a commit wakes whoever waits for one.
            run.execute(
                "UPDATE tickets SET rows_so_far = ?1 WHERE ticket_id = ?2 AND status = 'running' AND rows_so_far <> ?1",
                (rows, ticket_id),
            )

    def succeed(self, ticket_id: str, result: QueryResult, now: str) -> bool:
        """End a running ticket with its result."""
        with self._writes.writing() as run:
            ended = run.execute(
                "UPDATE tickets SET status = 'succeeded', finished_at = ?, error = NULL, rows_so_far = ?, columns = ?,"
                " sample = ?, row_count = ?, bytes = ?, truncated = ?, artifact = ?"
                " WHERE ticket_id = ? AND status = 'running'",
                (now, result.row_count, *result, ticket_id),
            )
            return ended.rowcount == 1

    def fail(self, ticket_id: str, error: str, now: str) -> bool:
        """End a running ticket that cannot be answered."""
        with self._writes.writing() as run:
            ended = run.execute(
                "UPDATE tickets SET status = 'failed', finished_at = ?, error = ?"
                " WHERE ticket_id = ? AND status = 'running'",
                (now, error, ticket_id),
            )
            return ended.rowcount == 1

    def cancelled(self, ticket_id: str, now: str) -> bool:
        """End a running ticket that was stopped; why is noted already when it was not the owner's wish."""
        with self._writes.writing() as run:
            ended = run.execute(
                "UPDATE tickets SET status = 'cancelled', finished_at = ? WHERE ticket_id = ? AND status = 'running'",
                (now, ticket_id),
            )
            return ended.rowcount == 1

    def release(self, ticket_id: str, now: str) -> bool:
        """Put a running ticket back at its place in the queue, as if it had not been begun.

        For an uploader that ends before the query. One that shall be cancelled is cancelled.
        """
        with self._writes.writing() as run:
            ended = run.execute(
                "UPDATE tickets SET status = iif(cancel_requested, 'cancelled', 'queued'),"
                " finished_at = iif(cancel_requested, ?, NULL), started_at = iif(cancel_requested, started_at, NULL),"
                " attempts = attempts - 1, rows_so_far = 0 WHERE ticket_id = ? AND status = 'running'",
                (now, ticket_id),
            )
            return ended.rowcount == 1

    def any_queued(self) -> bool:
        """Whether a ticket is queued."""
        with self._reads.reading() as run:
            return find(run, "WHERE status = 'queued' LIMIT 1") is not None

    def cancel_requests(self) -> set[str]:
        """The running tickets that shall be stopped."""
        with self._reads.reading() as run:
            rows = run.execute("SELECT ticket_id FROM tickets WHERE status = 'running' AND cancel_requested").fetchall()
        return {str(ticket_id) for (ticket_id,) in rows}

    def spent(self, since: str, now: str) -> float:
        """For how many seconds queries ran from ``since`` to ``now``, each by itself.

        A run that the uploader's end cut short counts only if it was the ticket's last.
        """
        with self._reads.reading() as run:
            rows = run.execute(
                "SELECT started_at, finished_at FROM tickets WHERE finished_at > ?1 AND started_at IS NOT NULL"
                " UNION ALL SELECT started_at, NULL FROM tickets WHERE status = 'running'",
                (since,),
            ).fetchall()
        spans = (_seconds(max(began, since), min(ended or now, now)) for began, ended in rows)
        return sum(max(span, 0.0) for span in spans)  # none is negative but for a clock that was set back


def _seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
