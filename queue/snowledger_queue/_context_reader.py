"""What a server reads: one customer's context, from ``state.db`` and what is still in the queue."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing, contextmanager, suppress
from functools import partial
from operator import attrgetter
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from cachetools import LRUCache

from ._customer_state import CustomerState, KnownAtom, hour_before, read_atom, read_state
from ._recall import HOUR_CHARACTERS
from ._recent import newest
from ._state import SQLITE_ERRORS, DamagedStateError, stand_in
from ._state_link import StateLink
from ._stored import check_time

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

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
    """Open ones, and those of the last 24 hours (by hours, as counts are); at most ``CONTEXT_TICKETS``.
    See ``ContextReader.read``."""
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
        self._kept: LRUCache[_Whose, _Kept] = LRUCache(_KEPT_CUSTOMERS)
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
            query = _Query(customer, queued, now, limit, subject_prefix or "", after, allowed)
            try:
                context, state = _read(connection, query)
            except SQLITE_ERRORS as error:
                self._reads.failed(error)
            else:
                if mark is not None and state.atoms is not None:
                    self._kept[customer, allowed] = _Kept(mark, now[:HOUR_CHARACTERS], state)
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
        query = _Query(customer, queued, now, limit, subject_prefix or "", after, allowed)
        try:
            return _merged(kept.state, query, _missing)
        except DamagedStateError:
            return None  # a reading finds it too, and tells of it

    def _read_again(self, whose: _Whose, now: str, mark: Hashable) -> _Kept | None:
        """A dozen rows or so, which SQLite has in memory: 0.3 ms. None when that is not so any more, or not now."""
        before = self._kept.pop(whose).state
        if before.tickets_counted > _FEW_TICKETS:
            return None
        connection = self._marks.connection()
        try:
            with _transaction(connection):
                state = read_state(connection, *whose, now, before)
        except SQLITE_ERRORS:
            return None
        if state.atoms is None:
            return None
        kept = self._kept[whose] = _Kept(mark, now[:HOUR_CHARACTERS], state)
        return kept

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
    allowed: frozenset[str] | None


class _Kept(NamedTuple):
    """What was read of a customer, and while what it is right."""

    mark: Hashable
    hour: str
    state: CustomerState


def _read(connection: sqlite3.Connection, query: _Query) -> tuple[CustomerContext, CustomerState]:
    with _transaction(connection):
        state = read_state(connection, query.customer, query.allowed, query.now)
        return _merged(state, query, partial(read_atom, connection, query.customer)), state


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """For all that is read of a customer: what ``drained`` names is in the tables that are read next."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        with suppress(*SQLITE_ERRORS):
            connection.rollback()


def _merged(state: CustomerState, query: _Query, atom: Callable[[KnownAtom], Atom]) -> CustomerContext:
    """With what is in the queue; ``atom`` gives what the state does not have whole."""
    queued = query.queued(state.drained)
    whole = {**(state.atoms or {}), **{atom[:4]: atom for atom in queued.atoms}}
    known = [*state.known, *(KnownAtom(*atom[:5], *atom[7:]) for atom in queued.atoms)]
    insights = _holding(known, query)
    valid_until = min([_next_hour(query.now), *_turns(known, query.now)])
    check_time(valid_until)
    return CustomerContext(
        as_of=state.as_of,
        insights=[whole.get(known.key) or atom(known) for known in insights[: query.limit]],
        insight_count=len(insights),
        counts=_counts(state, query, queued),
        # The warehouse has the last word on an event of which there are two.
        recent=newest((*queued.recent, *state.recent)),
        valid_until=valid_until,
        tickets=state.tickets,
        ticket_count=state.ticket_count,
    )


def _holding(known: Iterable[KnownAtom], query: _Query) -> list[KnownAtom]:
    """The insights that hold now, in the order of ``CustomerContext.insights``."""
    last: dict[tuple[str, str], KnownAtom] = {}
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
    return sorted(holding, key=attrgetter(*Position._fields), reverse=True)


def _position(atom: KnownAtom) -> Position:
    return Position(bool(atom.verified), atom.recorded_at, atom.atom_id)


def _turns(known: Iterable[KnownAtom], now: str) -> Iterator[str]:
    """When atoms begin or end."""
    for atom in known:
        for moment in (atom.valid_from, atom.valid_to):
            if moment is not None and moment > now:
                yield moment


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
