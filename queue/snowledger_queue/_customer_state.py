"""What ``state.db`` has of one customer, as far as its context needs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ._context_tickets import ContextTicket, context_tickets
from ._event import timestamp
from ._recall import HOUR_CHARACTERS, Atom
from ._recent import decode_rows, to_event
from ._state import DamagedStateError
from ._stored import BYTES, INTEGER, OPTIONAL_TEXT, TEXT, check_json, check_time, check_types

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from ._recall import RecentEvent

_FEW_ATOMS, _FEW_BYTES = 64, 64 * 1024
"""So many atoms, with values of so many bytes, are read whole: one by one takes four times as long. Of more a client
usually wants only the first, and values may have 256 KiB each."""

Key: TypeAlias = tuple[str, str, str, str]
"""Of an atom of one customer: subject, metric, recorded_at, atom_id."""


class KnownAtom(NamedTuple):
    """An atom without its value."""

    subject: str
    metric: str
    recorded_at: str
    atom_id: str
    verified: int
    valid_from: str | None
    valid_to: str | None

    @property
    def key(self) -> Key:
        """Tells it from the customer's others."""
        return self[:4]


class _Rows(NamedTuple):
    """Of a customer's atoms, as they were fetched."""

    known: list[tuple[object, ...]]
    values: list[tuple[str, bytes]] | None
    """None when they are many or large."""


class Shared(NamedTuple):
    """What one transaction has read that is of all customers."""

    drained: frozenset[str]
    """The stems of the segments whose events are in the file."""
    as_of: str | None
    atoms_version: str | None
    """Another one after atoms came or went; None when nothing says so."""


class CustomerState(NamedTuple):
    """What one transaction has read of one customer."""

    shared: Shared
    known: Sequence[KnownAtom]
    atoms: Mapping[Key, Atom] | None
    """All of them, with their values; None when they are many or large."""
    counts: Mapping[str, tuple[int, int]]
    """By activity: in the last 24 hours, and in the last 7 days."""
    recent: Sequence[RecentEvent]
    tickets: Sequence[ContextTicket]
    ticket_count: int
    """How many the reader may read."""
    tickets_counted: int
    """How many rows were read to say so: tells what reading again takes."""
    rows: _Rows
    """What ``known`` and ``atoms`` are made of."""


def read_shared(connection: sqlite3.Connection) -> Shared:
    """Read it, in a transaction of the caller. Raises as ``read_state``."""
    drained = connection.execute("SELECT stem FROM drained").fetchall()
    check_types(drained, TEXT)
    said = connection.execute("SELECT name, value FROM meta WHERE name IN ('as_of', 'atoms_version')").fetchall()
    check_types(said, TEXT, TEXT)
    meta: dict[str, str] = dict(said)
    as_of = meta.get("as_of")
    if as_of is not None:
        check_time(as_of)
    return Shared(frozenset(stem for (stem,) in drained), as_of, meta.get("atoms_version"))


def read_state(
    connection: sqlite3.Connection,
    shared: Shared,
    customer: str,
    allowed: frozenset[str] | None,
    now: str,
    before: CustomerState | None = None,
) -> CustomerState:
    """Read it, in the transaction of ``shared``. Differs within an hour of ``now`` only when the file does.

    With the customer's state of ``before``, atoms that are as they were are those of ``before``. For ``allowed`` see
    ``ContextReader.read``. Raises ``DamagedStateError``, and what SQLite raises.
    """
    if before is not None and shared.atoms_version is not None and shared.atoms_version == before.shared.atoms_version:
        rows = before.rows
    else:
        rows = _rows(connection, customer)
    known, atoms = (before.known, before.atoms) if before is not None and before.rows == rows else _atoms(rows)
    tickets, ticket_count, tickets_counted = context_tickets(connection, customer, allowed, hour_before(now, 24))
    return CustomerState(
        shared=shared,
        known=known,
        atoms=atoms,
        counts=_counts(connection, customer, now),
        recent=_recent(connection, customer),
        tickets=tickets,
        ticket_count=ticket_count,
        tickets_counted=tickets_counted,
        rows=rows,
    )


def read_atom(connection: sqlite3.Connection, customer: str, known: KnownAtom) -> Atom:
    """With its value. Raises as ``read_state``."""
    found = connection.execute(
        "SELECT query_hash, value FROM atoms"
        " WHERE customer = ? AND subject = ? AND metric = ? AND recorded_at = ? AND atom_id = ?",
        (customer, *known.key),
    ).fetchall()
    return _valued([known], found)[known.key]


def hour_before(now: str, hours: int) -> str:
    """The hour of an event that was so long before ``now``; after it, when ``hours`` is negative."""
    return _hour_before(now[:HOUR_CHARACTERS], hours)


@lru_cache(8)  # the same for an hour
def _hour_before(hour: str, hours: int) -> str:
    return timestamp(datetime.fromisoformat(hour).replace(tzinfo=UTC) - timedelta(hours=hours))[:HOUR_CHARACTERS]


def _rows(connection: sqlite3.Connection, customer: str) -> _Rows:
    known = connection.execute(
        "SELECT subject, metric, recorded_at, atom_id, verified, valid_from, valid_to, length(value)"
        " FROM atoms WHERE customer = ? ORDER BY subject, metric, recorded_at, atom_id",
        (customer,),
    ).fetchall()
    check_types(known, TEXT, TEXT, TEXT, TEXT, INTEGER, OPTIONAL_TEXT, OPTIONAL_TEXT, INTEGER)
    if len(known) > _FEW_ATOMS or sum(row[-1] for row in known) > _FEW_BYTES:
        return _Rows(known, None)
    values = connection.execute(
        "SELECT query_hash, value FROM atoms WHERE customer = ? ORDER BY subject, metric, recorded_at, atom_id",
        (customer,),
    ).fetchall()
    return _Rows(known, values)


def _atoms(rows: _Rows) -> tuple[Sequence[KnownAtom], Mapping[Key, Atom] | None]:
    known = [KnownAtom(*row[:-1]) for row in rows.known]  # type: ignore[arg-type]  # they were checked
    return known, None if rows.values is None else _valued(known, rows.values)


def _valued(known: Sequence[KnownAtom], found: Sequence[tuple[str, bytes]]) -> Mapping[Key, Atom]:
    if len(found) != len(known):
        raise DamagedStateError("an insight was found without its value")
    check_types(found, TEXT, BYTES)
    atoms = {}
    for atom, (query_hash, value) in zip(known, found, strict=True):
        check_json(value)
        atoms[atom.key] = Atom(*atom.key, bool(atom.verified), query_hash, value, atom.valid_from, atom.valid_to)
    return atoms


def _counts(connection: sqlite3.Connection, customer: str, now: str) -> Mapping[str, tuple[int, int]]:
    stored = connection.execute(
        "SELECT activity, sum(iif(hour >= ?, events, 0)), sum(events) FROM activity_hours"
        " WHERE customer = ? AND hour >= ? GROUP BY activity",
        (hour_before(now, 24), customer, hour_before(now, 7 * 24)),
    ).fetchall()
    check_types(stored, TEXT, INTEGER, INTEGER)
    return {activity: (in_day, in_week) for activity, in_day, in_week in stored}


def _recent(connection: sqlite3.Connection, customer: str) -> Sequence[RecentEvent]:
    found = connection.execute("SELECT events FROM recent WHERE customer = ?", (customer,)).fetchone()
    return [] if found is None else [to_event(row) for row in decode_rows(found[0])]
