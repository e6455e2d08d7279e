"""What a server reads: one customer's context, from ``state.db`` and what is still in the queue."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from cachetools import LRUCache

from ._customer_state import CustomerState, KnownAtom, Shared, hour_before, read_atom, read_shared, read_state
from ._insights import Asked, Insights, Position, find_insights
from ._recall import HOUR_CHARACTERS
from ._recent import newest
from ._state import SQLITE_ERRORS, DamagedStateError, stand_in
from ._state_link import StateLink
from ._stored import check_time

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from ._context_tickets import ContextTicket
    from ._recall import Atom, RecentEvent
    from ._spool import Spool

    _Whose: TypeAlias = tuple[str, frozenset[str] | None]
    """A customer, and ``allowed``: who may read fewer is not told of all tickets."""

_READ_WAIT_S = 1.0
"""Others hold the file's locks for milliseconds, and answers from the queue alone are poor ones."""

_FEW_TICKETS = 100
"""Of a customer with more within a day, whoever may read them, counting takes longer than the event loop should stand
still."""

_KEPT_CUSTOMERS = 128
"""Of those who log and ask in turn; each takes 22 KB with twenty insights. Of others there is their answer."""


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


@dataclass(frozen=True, slots=True)
class CustomerContext:
    """What is known about a customer at a moment."""

    as_of: str | None
    """Up to when the warehouse's events are in it; None when there is no usable ``state.db`` or it is being rebuilt."""
    insights: list[Atom]
    """Those that hold now; see ``Insights.shown``."""
    insight_count: int
    """How many there are, when ``limit`` did not cut them."""
    counts: list[ActivityCount]
    """Most frequent first (``last_7_d``), then by name."""
    recent: list[RecentEvent]
    """Newest first, at most ``RECENT_EVENTS``."""
    valid_until: str
    """The next moment at which the answer differs only because time passes."""
    tickets: Sequence[ContextTicket] = ()
    """Open ones, and those of the last 24 hours (by hours, as counts are); at most ``CONTEXT_TICKETS``.
    See ``ContextReader.read``."""
    ticket_count: int = 0
    """How many there are."""
    insights_version: int = field(default=0, compare=False)
    """See ``Insights.version``; 0 says nothing."""


class ContextReader:
    """Reads contexts. Blocking, microseconds to milliseconds; never raises for what is wrong with ``state.db``."""

    def __init__(self, spool: Spool) -> None:
        said: set[str] = set()
        self._marks = StateLink(spool, 0, said)
        self._reads = StateLink(spool, _READ_WAIT_S, said)
        self._reads.connection()  # so that the first read does not change the mark
        self._one_read = Lock()
        self._kept: LRUCache[_Whose, _Kept] = LRUCache(_KEPT_CUSTOMERS)
        self._shared: tuple[Hashable, Shared] | None = None
        """Of the file as it was at that version."""
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
        allowed: frozenset[str] | None = None,
        mark: Hashable = None,
    ) -> CustomerContext:
        """Read a customer's context as it is at ``now`` (in the form of ``ts``).

        ``queued`` is called with the stems of the segments that ``state.db`` covers, and gives what the others hold.
        ``insights`` are those after ``after`` whose subject starts with ``subject_prefix``, at most ``limit``.
        ``tickets`` are those whose results one may read who may read ``allowed`` as well; with None there are none.
        With the ``mark`` from before, what is read is kept for ``at_hand``.
        """
        with self._one_read:
            connection = self._reads.connection()
            query = _Query(customer, queued, now, Asked(limit, subject_prefix or "", after), allowed)
            try:
                context, state, insights = _read(connection, query)
            except SQLITE_ERRORS as error:
                self._reads.failed(error)
            else:
                if mark is not None and state.atoms is not None:
                    self._kept[customer, allowed] = _Kept(mark, now[:HOUR_CHARACTERS], state, insights)
                return context
            with closing(stand_in()) as connection:
                return _read(connection, query)[0]

    def at_hand(
        self,
        customer: str,
        queued: Callable[[frozenset[str]], Queued],
        now: str,
        limit: int,
        subject_prefix: str | None,
        after: Position | None,
        allowed: frozenset[str] | None,
        mark: Hashable,
    ) -> CustomerContext | None:
        """What ``read`` would answer, for a customer of whom little was known when it was read last; else None.

        For one who has just got this ``mark``. Takes less than a millisecond; not while another thread reads.
        """
        whose = customer, allowed
        kept = self._kept.get(whose)
        if kept is not None and (kept.mark, kept.hour) != (mark, now[:HOUR_CHARACTERS]):
            kept = self._read_again(whose, now, mark)
        if kept is None:
            return None
        query = _Query(customer, queued, now, Asked(limit, subject_prefix or "", after), allowed)
        try:
            context, insights = _merged(kept.state, query, _missing, kept.insights)
        except DamagedStateError:
            return None  # a reading finds it too, and tells of it
        if insights is not kept.insights:
            self._kept[whose] = kept._replace(insights=insights)
        return context

    def _read_again(self, whose: _Whose, now: str, mark: Hashable) -> _Kept | None:
        """A dozen rows or so, which SQLite has in memory: 0.3 ms. None when that is not so any more, or not now."""
        before = self._kept.pop(whose)
        if before.state.tickets_counted > _FEW_TICKETS:
            return None
        connection = self._marks.connection()
        try:
            with _transaction(connection):
                state = read_state(connection, self._shared_by(connection), *whose, now, before.state)
        except SQLITE_ERRORS:
            return None
        if state.atoms is None:
            return None
        kept = self._kept[whose] = _Kept(mark, now[:HOUR_CHARACTERS], state, before.insights)
        return kept

    def _shared_by(self, connection: sqlite3.Connection) -> Shared:
        """What is of all customers, read once for all whose contexts are asked for between two commits."""
        # In the transaction, for which it takes the file as it is now, so that what is read next is of this version.
        [version] = connection.execute("PRAGMA data_version").fetchone()
        seen = self._marks.turns, version
        if self._shared is None or self._shared[0] != seen:
            self._shared = seen, read_shared(connection)
        return self._shared[1]

    def close(self) -> None:
        """Safe to call twice."""
        with self._one_read:
            self._marks.close()
            self._reads.close()


class _Query(NamedTuple):
    customer: str
    queued: Callable[[frozenset[str]], Queued]
    now: str
    asked: Asked
    allowed: frozenset[str] | None


class _Kept(NamedTuple):
    """What was read of a customer, and while what it is right."""

    mark: Hashable
    hour: str
    state: CustomerState
    insights: Insights | None
    """Those that are told every time. None with some in the queue, or after a page: those may be large."""


def _read(connection: sqlite3.Connection, query: _Query) -> tuple[CustomerContext, CustomerState, Insights | None]:
    with _transaction(connection):
        state = read_state(connection, read_shared(connection), query.customer, query.allowed, query.now)
        context, insights = _merged(state, query, partial(read_atom, connection, query.customer))
        return context, state, insights


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """For all that is read of a customer: what ``drained`` names is in the tables that are read next."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        with suppress(*SQLITE_ERRORS):
            connection.rollback()


def _merged(
    state: CustomerState, query: _Query, atom: Callable[[KnownAtom], Atom], before: Insights | None = None
) -> tuple[CustomerContext, Insights | None]:
    """With what is in the queue, and what to keep; ``atom`` gives what the state does not have whole."""
    queued = query.queued(state.shared.drained)
    insights = before
    if insights is None or queued.atoms or not insights.hold(state.known, query.asked, query.now):
        insights = find_insights(state, queued.atoms, query.asked, query.now, atom)
    valid_until = _next_hour(query.now)
    if insights.valid_until is not None and insights.valid_until < valid_until:
        check_time(insights.valid_until)
        valid_until = insights.valid_until
    context = CustomerContext(
        as_of=state.shared.as_of,
        insights=insights.shown,
        insight_count=insights.total,
        counts=_counts(state, query, queued),
        # The warehouse has the last word on an event of which there are two.
        recent=newest((*queued.recent, *state.recent)),
        valid_until=valid_until,
        tickets=state.tickets,
        ticket_count=state.ticket_count,
        insights_version=insights.version,
    )
    return context, None if queued.atoms or query.asked.page else insights


def _counts(state: CustomerState, query: _Query, queued: Queued) -> list[ActivityCount]:
    day, week = (hour_before(query.now, hours) for hours in (24, 7 * 24))
    counts = {activity: [*count] for activity, count in state.counts.items()}
    for (hour, activity), events in queued.hours.items():
        if hour >= week:
            count = counts.setdefault(activity, [0, 0])
            count[0] += events if hour >= day else 0
            count[1] += events
    return sorted((ActivityCount(name, *count) for name, count in counts.items()), key=lambda c: (-c.last_7_d, c[0]))


def _missing(_known: KnownAtom) -> Atom:
    raise DamagedStateError("an insight was found without its value")


def _next_hour(now: str) -> str:
    return hour_before(now, -1) + ":00:00.000000Z"
