"""A connection to ``state.db`` for tickets, which follows the file by its name."""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING

from ._errors import StateError
from ._state import (
    SQLITE_ERRORS,
    UnusableStateError,
    connect,
    connect_for_writing,
    is_damage,
    place,
    set_aside,
    state_error,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from ._spool import Spool
    from ._state import Place

log = logging.getLogger(__name__)

_LOOK_S = 0.001
"""How often one who waits looks whether the file is free: some 10 µs each, against a commit of a millisecond."""


class TicketLink:
    """One connection, made when it is needed. Threads take turns; each waits at most ``wait_s`` for its turn.

    What goes wrong is a ``StateError``, and then nothing was changed. A damaged file is set aside.
    """

    def __init__(self, spool: Spool, wait_s: float) -> None:
        """``wait_s`` is also for how long other processes may lock the file."""
        self._spool = spool
        self._path = spool.state
        self._wait_s = wait_s
        self._turn = Lock()
        self._connection: sqlite3.Connection | None = None
        self._place: Place | None = None
        self._closed = False
        self._turns = 0
        """Grows with every connection."""

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Use the connection; each statement sees the file as of its beginning."""
        with self._errors():
            yield self._connected()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Do all or nothing; what was done is on stable storage afterwards."""
        with self._errors():
            run = self._connected()
            self._begin(run)
            try:
                yield run
                run.execute("COMMIT")
            except BaseException:
                with suppress(*SQLITE_ERRORS):  # SQLite may have done so already
                    run.rollback()
                raise
            if place(self._path) != self._place:
                raise OSError("it was replaced meanwhile")

    def mark(self) -> Hashable:
        """Differs after every commit, and when it is another file. Takes microseconds."""
        with self._turn:
            try:
                [version] = self._connected().execute("PRAGMA data_version").fetchone()
            except StateError:
                return self._turns, None
            except (OSError, *SQLITE_ERRORS) as error:
                self._failed(error)
                return object()  # unlike any other: who wants to know must look
            return self._turns, version

    def close(self) -> None:
        """Safe to call twice."""
        with self._turn:
            self._closed = True
            self._drop()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=self._wait_s):
            raise StateError(f"{self._path} is in use by other calls", transient=True)
        try:
            yield
        except (OSError, *SQLITE_ERRORS) as error:
            raise self._failed(error) from error
        finally:
            self._turn.release()

    def _begin(self, run: sqlite3.Connection) -> None:
        """Begin a transaction that writes, as soon as nobody else's is open. Raises ``sqlite3.Error``."""
        deadline = time.monotonic() + self._wait_s
        # SQLite itself would look ever more rarely, at last ten times a second: a free lock is then left unused, or
        # taken by whoever came last, and of many who submit some wait for ever.
        run.execute("PRAGMA busy_timeout = 0")
        while True:
            try:
                run.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
            else:
                return
            time.sleep(_LOOK_S * (0.5 + random.random()))  # noqa: S311 - not a secret

    def _connected(self) -> sqlite3.Connection:
        """The connection to the file that has the name now. Raises ``OSError``, ``sqlite3.Error``, ``StateError``."""
        if self._closed:
            raise StateError(f"{self._path} was closed", transient=False)
        found = place(self._path)
        if self._connection is not None and found == self._place:
            return self._connection
        self._drop()
        self._connection = self._open(found)
        self._turns += 1
        # Whoever is told of a ticket keeps its id, so a loss of power must not take it back.
        self._connection.execute("PRAGMA synchronous = FULL")
        return self._connection

    def _open(self, found: Place | None) -> sqlite3.Connection:
        if found is None:
            raise StateError(
                f"{self._path} is not there: no uploader has made it yet; start one with `snowledger upload`",
                transient=True,
            )
        # Of the time before it is opened: when it is replaced meanwhile, the next use notices.
        self._place = found
        return connect(self._path, self._wait_s)

    def _failed(self, error: OSError | sqlite3.Error | UnicodeDecodeError) -> StateError:
        """Begin anew with the next use; the error to raise."""
        with suppress(OSError):
            if is_damage(self._path, error) and place(self._path) == self._place:
                # The uploader need not come across the damage by itself; it makes a file that is missing.
                aside = set_aside(self._path)
                log.error("%s is damaged (%s); it is now %s, its tickets are lost", self._path, error, aside.name)
        self._drop()
        if not (is_damage(self._path, error) or isinstance(error, UnusableStateError)):
            return state_error(self._path, error)
        with suppress(OSError):
            self._spool.request_refresh()
        return StateError(
            f"{self._path} cannot be used: {error}; an uploader makes it anew when it starts (`snowledger upload`)",
            transient=True,
        )

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(*SQLITE_ERRORS):
                self._connection.close()
            self._connection = None


class MakingTicketLink(TicketLink):
    """The uploader's, which makes the file when it is missing or bad."""

    def _open(self, found: Place | None) -> sqlite3.Connection:
        del found
        connect_for_writing(self._path).close()
        return super()._open(place(self._path))
