"""Tickets as a server and the command line use them: asking for a query, its result, its end."""

from __future__ import annotations

import logging
import secrets
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import orjson

from ._errors import StateError, TooManyTicketsError
from ._event import timestamp
from ._kill_switch import KillSwitch, KillSwitchFile
from ._ticket import CANCEL, SELECT, STATUSES, Ticket, find, readable, to_customers, to_ticket
from ._ticket_link import TicketLink
from ._ticket_retention import (
    DELETED_AT_ONCE,
    MAX_AGE_DAYS,
    PAUSE_S,
    Pruned,
    count_tickets,
    delete_tickets,
    expendable,
    forget_artifacts,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Container, Hashable, Iterable, Mapping, Sequence

    from ._kill_switch import KillSwitchUser
    from ._spool import Spool

log = logging.getLogger(__name__)

MAX_OPEN_TICKETS = 100
"""Of one customer. At a second for a query that is already minutes of waiting; a loop that went wrong stops here."""

_WAIT_S = 1.0
"""Others hold the file's locks for milliseconds, the uploader at most some tenths of a second."""


class Tickets:
    """The tickets of a spool. Blocking; threads may share it.

    Every method may raise ``StateError``, which is transient unless this was closed: ``state.db`` is locked, is not
    there, or is bad. It is the uploader that makes it. Times (``now``) are in the form of ``ts``.
    """

    def __init__(self, spool: Spool) -> None:
        self._switch = KillSwitchFile(spool)
        # Of their own, so that nobody who asks waits for one who submits.
        self._marks = TicketLink(spool, 0)
        self._reads = TicketLink(spool, _WAIT_S)
        self._writes = TicketLink(spool, _WAIT_S)

    def submit(  # noqa: PLR0913 - one parameter per property of a ticket
        self,
        *,
        customer: str,
        customers: Iterable[str],
        template: str,
        params: str,
        query_hash: str,
        query_tag: str,
        byte_cap: int | None,
        max_age_s: float,
        now: str,
    ) -> tuple[Ticket, bool]:
        """Ask for a query; the ticket, and whether it is an earlier one. Takes one commit.

        The same query (customer, ``customers``, ``query_hash`` and ``byte_cap``) is answered by the newest ticket that
        succeeded less than ``max_age_s`` seconds ago and still has its file, else by one that is queued or running.

        Raises:
            KillSwitchError: queries are refused for now.
            TooManyTicketsError: the customer has ``MAX_OPEN_TICKETS`` that are not finished.
        """
        allowed = orjson.dumps(sorted(set(customers))).decode()
        self._switch.refuse_queries()  # that is what to say, also where there is no state.db
        with self._writes.writing() as run:
            # Again, for who turns it on meanwhile waits for this transaction before cancelling what is queued.
            self._switch.refuse_queries()
            reused = find(
                run,
                "WHERE customer = ? AND query_hash = ? AND (finished_at > ? OR finished_at IS NULL)"
                " AND customers = ? AND byte_cap IS ?"
                " AND (status = 'succeeded' AND artifact OR status IN ('queued', 'running') AND NOT cancel_requested)"
                " ORDER BY finished_at IS NULL, finished_at DESC, number DESC LIMIT 1",
                *(customer, query_hash, _before(now, timedelta(seconds=max_age_s)), allowed, byte_cap),
            )
            if reused is not None:
                return reused, True
            [waiting] = run.execute(
                # By this index: of those that are finished the customer may have a hundred thousand.
                "SELECT count(*) FROM tickets INDEXED BY tickets_in_status"
                " WHERE status IN ('queued', 'running') AND customer = ?",
                (customer,),
            ).fetchone()
            if waiting >= MAX_OPEN_TICKETS:
                raise TooManyTicketsError(
                    f"{waiting} queries of this customer are queued or running; wait for one to end, or cancel one"
                )
            ticket_id = secrets.token_hex(16)
            run.execute(
                "INSERT INTO tickets (ticket_id, customer, customers, template, params, query_hash, query_tag,"
                " byte_cap, submitted_at, status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued')",
                (ticket_id, customer, allowed, template, params, query_hash, query_tag, byte_cap, now),
            )
            [row] = run.execute(f"{SELECT} WHERE ticket_id = ?", (ticket_id,))
            return to_ticket(row), False

    def get(self, ticket_id: str, customer: str, allowed: Container[str] = ()) -> Ticket | None:
        """A ticket of this customer, of which one that may read ``allowed`` too may read the whole result.

        None for any other: an unknown one, another's, and one whose query may read further customers.
        """
        with self._reads.reading() as run:
            return _own(run, ticket_id, customer, allowed)

    def cancel(self, ticket_id: str, customer: str, now: str, allowed: Container[str] = ()) -> Ticket | None:
        """End a queued ticket at once, and have the uploader end a running one; a finished one stays as it is.

        Gives the ticket as it is then; None as ``get``.
        """
        with self._writes.writing() as run:
            if _own(run, ticket_id, customer, allowed) is None:
                return None
            run.execute(f"{CANCEL} AND ticket_id = :ticket_id", {"reason": None, "now": now, "ticket_id": ticket_id})
            return find(run, "WHERE ticket_id = ?", ticket_id)

    def list(self, customer: str | None, limit: int) -> Sequence[Ticket]:
        """The customer's tickets, newest first; with None everybody's, for the operator."""
        with self._reads.reading() as run:
            whose, values = ("", []) if customer is None else ("WHERE customer = ?", [customer])
            order = "ORDER BY submitted_at DESC, number DESC"
            # First by an index alone, for a row may be large.
            newest = f"SELECT number FROM tickets {whose} {order} LIMIT ?"  # noqa: S608 - our own text
            rows = run.execute(f"{SELECT} WHERE number IN ({newest}) {order}", (*values, limit)).fetchall()
            return [to_ticket(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many tickets of each status there are, also where there are none. For the operator."""
        with self._reads.reading() as run:
            found = run.execute("SELECT status, count(*) FROM tickets GROUP BY status").fetchall()
        return dict.fromkeys(STATUSES, 0) | {str(status): int(number) for status, number in found}

    def of_anybody(self, ticket_id: str) -> Ticket | None:
        """The ticket; None for an unknown one. For the operator, who may act for everybody."""
        with self._reads.reading() as run:
            return find(run, "WHERE ticket_id = ?", ticket_id)

    def finished(self, customer: str, query_hash: str, allowed: Container[str] = ()) -> bool:
        """Whether this customer ran this query to the end, as far back as tickets are kept (see ``prune``).

        Tickets that ``get`` would not give do not count.
        """
        with self._reads.reading() as run:
            found = run.execute(
                "SELECT DISTINCT customers FROM tickets WHERE customer = ? AND query_hash = ?"
                " AND finished_at IS NOT NULL AND status = 'succeeded'",
                (customer, query_hash),
            )
            return any(readable(to_customers(text), customer, allowed) for (text,) in found)

    def kill_switch(self) -> KillSwitch:
        """How the kill switch stands. Never raises."""
        return self._switch.read()

    def set_kill_switch(self, *, on: bool, reason: str, by: KillSwitchUser, now: str) -> bool:
        """Turn the kill switch; whether it stood otherwise before. See ``KillSwitchFile.turn``.

        Turning it on cancels what is queued, and asks the uploader to cancel what is running. Where ``state.db`` cannot
        be used, the uploader does both as soon as it can.
        """
        changed = self._switch.turn(on=on, reason=reason, by=by, now=now)
        if on:
            try:
                self.cancel_all(now)
            except StateError as error:
                log.info("no ticket was cancelled: %s", error)
        return changed

    def cancel_all(self, now: str) -> None:
        """While the kill switch is on, end what is queued and have the uploader end what is running."""
        switch = self._switch.read()
        if switch.on:
            with self._writes.writing() as run:
                run.execute(CANCEL, {"reason": f"the kill switch was turned on: {switch.reason}", "now": now})

    def prune(
        self,
        now: str,
        sizes: Mapping[str, int],
        max_artifact_bytes: int,
        max_age_days: float = MAX_AGE_DAYS,
        *,
        dry_run: bool = False,
    ) -> Pruned:
        """Delete old tickets, and tell which files of results must go. ``sizes`` are their bytes by ticket id.

        Tickets that finished more than ``max_age_days`` ago are deleted. The oldest files go until the others have at
        most ``max_artifact_bytes`` (their tickets stay), and those that are nobody's or of no use. A file that could
        not be deleted is told of again by the next pruning. ``dry_run`` changes nothing and only tells.
        """
        oldest = _before(now, timedelta(days=max_age_days))
        with self._reads.reading() as run:
            files = expendable(run, sizes, oldest, max_artifact_bytes)
            if dry_run:
                return Pruned(count_tickets(run, oldest), files.all)
        with self._writes.writing() as run:
            forget_artifacts(run, files.beyond_cap)
        tickets = 0
        while True:
            with self._writes.writing() as run:
                deleted = delete_tickets(run, oldest)
            tickets += deleted
            if deleted < DELETED_AT_ONCE:
                return Pruned(tickets, files.all)
            time.sleep(PAUSE_S)

    def mark(self) -> Hashable:
        """Differs after every commit to ``state.db``, also this object's, and when it is another file.

        Also when the kill switch was turned. Takes microseconds, whatever other threads do, and never raises.
        """
        return self._marks.mark(), self._switch.mark()

    def close(self) -> None:
        """Safe to call twice."""
        for link in (self._marks, self._reads, self._writes):
            link.close()


def _own(run: sqlite3.Connection, ticket_id: str, customer: str, allowed: Container[str]) -> Ticket | None:
    ticket = find(run, "WHERE ticket_id = ? AND customer = ?", ticket_id, customer)
    return ticket if ticket is not None and readable(ticket.customers, customer, allowed) else None


def _before(moment: str, span: timedelta) -> str:
    return timestamp(datetime.fromisoformat(moment) - span)
