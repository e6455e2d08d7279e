"""What a server reads: one customer's context, from ``state.db`` and what is still in the queue."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing, suppress
from datetime import datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from ._context_tickets import ContextTicket, context_tickets
from ._event import timestamp
from ._recall import HOUR_CHARACTERS, Atom
from ._recent import decode_rows, newest, to_event
from ._state import SQLITE_ERRORS, DamagedStateError, stand_in
from ._state_link import StateLink
from ._stored import BYTES, INTEGER, OPTIONAL_TEXT, TEXT, check_json, check_time, check_types

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    from ._recall import RecentEvent
    from ._spool import Spool

_READ_WAIT_S = 1.0
"""Others hold the file's locks for milliseconds, and answers from the queue alone are poor ones."""


class ActivityCount(NamedTuple):
    """How often a customer had an activity."""

    activity: str
    last_24_h: int
    last_7_d: int


class Queued(NamedTuple):
    """What of a customer is still in the queue."""

    atoms: Sequence[Atom]
    hours: Mapping[tuple[str, str], int]
    """Events by hour and activity."""
    recent: Sequence[RecentEvent]


class Position(NamedTuple):
    """A place in the order of insights."""

    verified: bool
    recorded_at: str
    atom_id: str


class CustomerContext(NamedTuple):
    """What is known about a customer at a moment."""

    as_of: str | None
    """Up to when the warehouse's events are in it; None when there is no usable ``state.db`` or it is being rebuilt."""
    insights: list[Atom]
    """Those that hold now: verified ones first, then the newest (``recorded_at``, ``atom_id``) first."""
    insight_count: int
    """How many there are, when ``limit`` did not cut them."""
    counts: list[ActivityCount]
    """Most frequent first (``last_7_d``), then by name."""
    recent: list[RecentEvent]
    """Newest first, at most ``RECENT_EVENTS``."""
    valid_until: str
    """The next moment at which the answer differs only because time passes."""
    tickets: Sequence[ContextTicket] = ()
    """Open ones, and those of the last 24 hours (by hours, as counts are); at most ``CONTEXT_TICKETS``."""
    ticket_count: int = 0
    """How many there are."""


class ContextReader:
    """Reads contexts. Blocking, microseconds to milliseconds; never raises for what is wrong with ``state.db``."""

    def __init__(self, spool: Spool) -> None:
        said: set[str] = set()
        self._marks = StateLink(spool, 0, said)
        self._reads = StateLink(spool, _READ_WAIT_S, said)
        self._reads.connection()  # so that the first read does not change the mark
        self._one_read = Lock()
        self._unlike = itertools.count()

    def mark(self) -> Hashable:
        """Differs whenever ``read`` may answer otherwise. Takes microseconds; another thread may read meanwhile."""
        version = self._marks.data_version()
        return next(self._unlike) if version is None else (version, self._reads.turns)

    def read(
        self,
        customer: str,
        queued: Callable[[frozenset[str]], Queued],
        now: str,
        limit: int,
        subject_prefix: str | None = None,
        after: Position | None = None,
    ) -> CustomerContext:
        """Read a customer's context as it is at ``now`` (in the form of ``ts``).

        ``queued`` is called with the stems of the segments that ``state.db`` covers, and gives what the others hold.
        ``insights`` are those after ``after`` whose subject starts with ``subject_prefix``, at most ``limit``.
        """
        with self._one_read:
            connection = self._reads.connection()
            query = _Query(customer, queued, now, limit, subject_prefix or "", after)
            try:
                return _read(connection, query)
            except SQLITE_ERRORS as error:
                self._reads.failed(error)
            with closing(stand_in()) as connection:
                return _read(connection, query)

    def close(self) -> None:
        """Safe to call twice."""
        with self._one_read:
            self._marks.close()
            self._reads.close()


class _Query(NamedTuple):
    customer: str
    queued: Callable[[frozenset[str]], Queued]
    now: str
    limit: int
    subject_prefix: str
    after: Position | None


class _Known(NamedTuple):
    """An atom without its value."""

    subject: str
    metric: str
    recorded_at: str
    atom_id: str
    verified: int
    valid_from: str | None
    valid_to: str | None


def _read(connection: sqlite3.Connection, query: _Query) -> CustomerContext:
    # All in one transaction: what `drained` names is in the tables that are read next.
    connection.execute("BEGIN")
    try:
        drained = connection.execute("SELECT stem FROM drained").fetchall()
        check_types(drained, TEXT)
        queued = query.queued(frozenset(stem for (stem,) in drained))
        as_of = _as_of(connection)
        stored = connection.execute(
            "SELECT subject, metric, recorded_at, atom_id, verified, valid_from, valid_to"
            " FROM atoms WHERE customer = ?",
            (query.customer,),
        ).fetchall()
        check_types(stored, TEXT, TEXT, TEXT, TEXT, INTEGER, OPTIONAL_TEXT, OPTIONAL_TEXT)
        in_queue = {atom[:4]: atom for atom in queued.atoms}
        known = [*map(_Known._make, stored), *(_Known(*atom[:5], *atom[7:]) for atom in queued.atoms)]
        insights = _holding(known, query)
        valid_until = min([_next_hour(query.now), *_turns(known, query.now)])
        check_time(valid_until)
        tickets, ticket_count = context_tickets(connection, query.customer, _hour_before(query.now, 24))
        return CustomerContext(
            as_of=as_of,
            insights=[in_queue.get(atom[:4]) or _atom(connection, query, atom) for atom in insights[: query.limit]],
            insight_count=len(insights),
            counts=_counts(connection, query, queued),
            recent=_recent(connection, query, queued),
            valid_until=valid_until,
            tickets=tickets,
            ticket_count=ticket_count,
        )
    finally:
        with suppress(*SQLITE_ERRORS):
            connection.rollback()


def _as_of(connection: sqlite3.Connection) -> str | None:
    rows = connection.execute("SELECT value FROM meta WHERE name = 'as_of'").fetchall()
    check_types(rows, TEXT)
    for (as_of,) in rows:
        check_time(as_of)
        return str(as_of)
    return None


def _holding(known: Iterable[_Known], query: _Query) -> list[_Known]:
    """The insights that hold now, in the order of ``CustomerContext.insights``."""
    last: dict[tuple[str, str], _Known] = {}
    for atom in known:
        if atom.valid_from is None or atom.valid_from <= query.now:
            key = atom[:2]
            before = last.get(key)
            # An atom that is in the queue as well as in state.db is not after itself.
            if before is None or atom[2:4] > before[2:4]:
                last[key] = atom
    holding = [
        atom
        for atom in last.values()
        if (atom.valid_to is None or atom.valid_to > query.now)
        and atom.subject.startswith(query.subject_prefix)
        and (query.after is None or _position(atom) < query.after)
    ]
    return sorted(holding, key=_position, reverse=True)


def _position(atom: _Known) -> Position:
    return Position(bool(atom.verified), atom.recorded_at, atom.atom_id)


def _turns(known: Iterable[_Known], now: str) -> Iterator[str]:
    """When atoms begin or end."""
    for atom in known:
        for moment in (atom.valid_from, atom.valid_to):
            if moment is not None and moment > now:
                yield moment


def _atom(connection: sqlite3.Connection, query: _Query, atom: _Known) -> Atom:
    """With its value, which is read for those alone that are asked for."""
    found = connection.execute(
        "SELECT query_hash, value FROM atoms"
        " WHERE customer = ? AND subject = ? AND metric = ? AND recorded_at = ? AND atom_id = ?",
        (query.customer, *atom[:4]),
    ).fetchone()
    if found is None:
        raise DamagedStateError("an insight was found without its value")
    check_types([found], TEXT, BYTES)
    query_hash, value = found
    check_json(value)
    return Atom(*atom[:4], bool(atom.verified), query_hash, value, atom.valid_from, atom.valid_to)


def _counts(connection: sqlite3.Connection, query: _Query, queued: Queued) -> list[ActivityCount]:
    day, week = (_hour_before(query.now, hours) for hours in (24, 7 * 24))
    stored = connection.execute(
        "SELECT activity, sum(iif(hour >= ?, events, 0)), sum(events) FROM activity_hours"
        " WHERE customer = ? AND hour >= ? GROUP BY activity",
        (day, query.customer, week),
    ).fetchall()
    check_types(stored, TEXT, INTEGER, INTEGER)
    counts = {activity: [in_day, in_week] for activity, in_day, in_week in stored}
    for (hour, activity), events in queued.hours.items():
        if hour >= week:
            count = counts.setdefault(activity, [0, 0])
            count[0] += events if hour >= day else 0
            count[1] += events
    return sorted((ActivityCount(name, *count) for name, count in counts.items()), key=lambda c: (-c.last_7_d, c[0]))


def _recent(connection: sqlite3.Connection, query: _Query, queued: Queued) -> list[RecentEvent]:
    found = connection.execute("SELECT events FROM recent WHERE customer = ?", (query.customer,)).fetchone()
    stored = [] if found is None else [to_event(row) for row in decode_rows(found[0])]
    # The warehouse has the last word on an event of which there are two.
    return newest((*queued.recent, *stored))


def _hour_before(now: str, hours: int) -> str:
    return timestamp(datetime.fromisoformat(now) - timedelta(hours=hours))[:HOUR_CHARACTERS]


def _next_hour(now: str) -> str:
    full = datetime.fromisoformat(now).replace(minute=0, second=0, microsecond=0)
    return timestamp(full + timedelta(hours=1))
