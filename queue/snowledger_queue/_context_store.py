"""What the uploader writes: the contexts of all customers in ``state.db``."""

from __future__ import annotations

import logging
import sqlite3
from collections import defaultdict
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from ._event import timestamp
from ._recall import HOUR_CHARACTERS, contribution
from ._recent import Row, decode_rows, encode_rows, newest, to_row
from ._state import SQLITE_ERRORS, Place, connect_for_writing, is_damage, place, set_aside, state_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ._spool import Spool

log = logging.getLogger(__name__)

_KEPT_HOURS = timedelta(days=8)
"""Hours are counted for a week; the eighth day is for a reader whose clock is slow."""

_KEPT_DRAINED = timedelta(seconds=60)
"""A covered segment is deleted within milliseconds; one that could not be is covered again when it is drained again."""

_KEY_COLUMNS = 5
"""Of an atom: what follows may be null, which does not compare."""

_DAY_CHARACTERS = len("2026-11-21")


class Changes(NamedTuple):
    """What a warehouse has got since a cursor, cut down to what contexts need."""

    cursor: str
    """A place in the warehouse, opaque to all but the warehouse."""
    reset: bool
    """The warehouse is not the one of the old cursor (deleted, restored, another); these changes are from its start."""
    more: bool
    """Whether there is more after ``cursor``."""
    counts: list[tuple[str, str, str, int]]
    """Customer, hour, activity, events; without snowledger's own events."""
    lines: list[bytes]
    """The lines of events: of each customer at least the newest ``RECENT_EVENTS``, and every insight."""


class Folded(NamedTuple):
    """What a fold touched."""

    customers: int
    events: int
    """The sum of the counts."""
    atoms: int


class ContextStore:
    """The contexts as the uploader sees them. Blocking; one at a time for a spool.

    Every method may raise ``StateError``: a transient one left everything as it was; after any other the file was set
    aside, and opening the store again makes it anew.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._place, self._size = _look(path)

    @classmethod
    def open(cls, spool: Spool) -> ContextStore:
        """Open ``state.db``; one that is missing, damaged or of another version is made anew, which the log tells."""
        return cls(spool.state, connect_for_writing(spool.state))

    def in_place(self) -> bool:
        """Whether the file is still the one that is open: not deleted, replaced or cut short under its writer."""
        found, size = _look(self._path)
        self._size = max(self._size, size)  # SQLite never makes it smaller
        return found is not None and found == self._place and size == self._size

    @property
    def cursor(self) -> str | None:
        """What the last fold left; None when nothing was folded yet."""
        with self._errors():
            found = self._connection.execute("SELECT value FROM meta WHERE name = 'cursor'").fetchone()
        return None if found is None else str(found[0])

    def fold(self, changes: Changes, now: str, drained: Sequence[str] = ()) -> Folded:
        """Add what is new, and move the cursor, in one transaction. Counts that are folded twice count twice.

        ``drained`` are the stems of segments whose events it brings: named with them, they never count twice.
        """
        recent: defaultdict[str, list[Row]] = defaultdict(list)
        atoms = []
        customers = {count[0] for count in changes.counts}
        for line in changes.lines:
            read = contribution(line)
            if read is None:
                continue
            customers.add(read.customer)
            if read.event is not None:
                recent[read.customer].append(to_row(read.event))
            if read.atom is not None:
                atoms.append((read.customer, *read.atom))
        with self._transaction() as run:
            if changes.reset:
                for table in ("meta", "atoms", "recent", "activity_hours", "drained"):
                    run.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
            self._fold_counts(run, changes.counts, now)
            if atoms:
                self._fold_atoms(run, atoms, now)
                # What nobody ever said before: a reader may have any earlier state of the file in mind.
                self._say(run, "atoms_version", uuid4().hex)
            self._fold_recent(run, recent)
            self._say(run, "cursor", changes.cursor)
            self._cover(run, drained, now)
        return Folded(len(customers), sum(count[3] for count in changes.counts), len(atoms))

    def confirm(self, as_of: str, drained: Sequence[str]) -> None:
        """Note that everything up to ``as_of`` is in, with the segments of these stems (for a minute)."""
        with self._transaction() as run:
            self._say(run, "as_of", as_of)
            run.execute("DELETE FROM drained WHERE confirmed_at < ?", (_before(as_of, _KEPT_DRAINED),))
            self._cover(run, drained, as_of)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._connection.close()

    def _fold_counts(self, run: sqlite3.Connection, counts: Iterable[tuple[str, str, str, int]], now: str) -> None:
        oldest = _before(now, _KEPT_HOURS)[:HOUR_CHARACTERS]
        # In the table's order, which finds each page once.
        run.executemany(
            "INSERT INTO activity_hours VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET events = events + excluded.events",
            sorted(count for count in counts if count[1] >= oldest),
        )
        today = now[:_DAY_CHARACTERS]
        # Once a day, for it looks at every row.
        if run.execute("SELECT value FROM meta WHERE name = 'pruned'").fetchone() != (today,):
            run.execute("DELETE FROM activity_hours WHERE hour < ?", (oldest,))
            self._say(run, "pruned", today)

    def _fold_atoms(self, run: sqlite3.Connection, atoms: Iterable[tuple[object, ...]], now: str) -> None:
        rows = sorted(atoms, key=lambda row: row[:_KEY_COLUMNS])
        run.executemany(
            "INSERT OR IGNORE INTO atoms"
            " (customer, subject, metric, recorded_at, atom_id, verified, query_hash, value, valid_from, valid_to)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        # Of those that have begun the last counts, so what is before it never will again.
        run.executemany(
            "DELETE FROM atoms WHERE customer = ?1 AND subject = ?2 AND metric = ?3 AND (recorded_at, atom_id) <"
            " (SELECT recorded_at, atom_id FROM atoms WHERE customer = ?1 AND subject = ?2 AND metric = ?3"
            " AND (valid_from IS NULL OR valid_from <= ?4) ORDER BY recorded_at DESC, atom_id DESC LIMIT 1)",
            [(*key, now) for key in dict.fromkeys(row[:3] for row in rows)],
        )

    def _fold_recent(self, run: sqlite3.Connection, recent: dict[str, list[Row]]) -> None:
        for customer, events in sorted(recent.items()):
            found = run.execute("SELECT events FROM recent WHERE customer = ?", (customer,)).fetchone()
            kept = [] if found is None else decode_rows(found[0])
            merged = newest((*events, *kept))
            if merged != kept:
                run.execute(
                    "INSERT INTO recent VALUES (?, ?) ON CONFLICT DO UPDATE SET events = excluded.events",
                    (customer, encode_rows(merged)),
                )

    def _cover(self, run: sqlite3.Connection, drained: Iterable[str], now: str) -> None:
        run.executemany("INSERT OR REPLACE INTO drained VALUES (?, ?)", ((stem, now) for stem in drained))

    def _say(self, run: sqlite3.Connection, name: str, value: str) -> None:
        run.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        run = self._connection
        with self._errors():
            run.execute("BEGIN IMMEDIATE")
            try:
                yield run
                run.execute("COMMIT")
            except BaseException:
                with suppress(*SQLITE_ERRORS):  # SQLite may have done so already
                    run.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SQLITE_ERRORS as error:
            if is_damage(self._path, error):
                self._connection.close()
                with suppress(OSError):
                    if place(self._path) == self._place:
                        aside = set_aside(self._path)
                        message = "%s is damaged (%s); it is now %s, its tickets are lost"
                        log.error(message, self._path, error, aside.name)  # noqa: TRY400 - an operator's line
            raise state_error(self._path, error) from error


def _look(path: Path) -> tuple[Place | None, int]:
    """The file's place and size; None when there is none to be seen."""
    try:
        status = path.lstat()
    except OSError:
        return None, 0
    return Place(status.st_dev, status.st_ino), status.st_size


def _before(moment: str, span: timedelta) -> str:
    return timestamp(datetime.fromisoformat(moment) - span)
