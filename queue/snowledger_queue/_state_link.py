"""A server's connection to ``state.db``, which follows the file by its name."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from ._state import SQLITE_ERRORS, Place, UnusableStateError, connect, is_damage, place, set_aside, stand_in

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ._spool import Spool

log = logging.getLogger(__name__)

_MADE_ANEW = "until the uploader has made it anew"


class StateLink:
    """One connection; an empty database stands in while there is no file to use. For one thread at a time.

    A bad file is looked at again when it was changed, one that cannot be opened now with every use.
    """

    def __init__(self, spool: Spool, wait_s: float, said: set[str]) -> None:
        """``said`` are the reasons that are in the log already."""
        self._spool = spool
        self._path = spool.state
        self._wait_s = wait_s
        self._said = said
        self._stand_in = stand_in()
        self._connection: sqlite3.Connection | None = None
        self._place: Place | None = None
        self._refused: Hashable = None
        """The state of a bad file, to know it again."""
        self._failing = False
        self.turns = 0
        """Grows whenever something else is read than before."""

    def connection(self) -> sqlite3.Connection:
        """What to read now."""
        try:
            status = os.lstat(self._path)
        except FileNotFoundError:
            self._drop()
            self._refused, self._failing = None, False
            self._say(logging.INFO, "it is not there", _MADE_ANEW)
            return self._stand_in
        except OSError as error:
            self.failed(error)
            return self._stand_in
        found = Place(status.st_dev, status.st_ino)
        if self._connection is not None:
            if found == self._place:
                return self._connection
            self._drop()
        if _state_of(status) != self._refused:
            try:
                self._connection = connect(self._path, self._wait_s)
                self._connection.execute("PRAGMA query_only = ON")
            except (OSError, *SQLITE_ERRORS) as error:
                self._place = found
                self.failed(error)
            else:
                self._place, self._refused, self._failing = found, None, False
                self.turns += 1
        return self._connection or self._stand_in

    def failed(self, error: Exception) -> None:
        """Something came of using the connection: do without the file, and see to it that it is made anew."""
        self._drop()
        self.turns += 1
        self._failing = not (is_damage(self._path, error) or isinstance(error, UnusableStateError))
        if self._failing:
            self._say(logging.WARNING, str(error), "meanwhile")
            return
        self._say(logging.ERROR, str(error), _MADE_ANEW)
        with suppress(OSError):
            self._refused = _state_of(os.lstat(self._path))
            if is_damage(self._path, error) and place(self._path) == self._place:
                # The uploader need not come across the damage by itself; it makes a file that is missing.
                set_aside(self._path)
        with suppress(OSError):
            self._spool.request_refresh()

    def data_version(self) -> Hashable:
        """Differs after another process's commit, or when it is another file; None when that cannot be said now."""
        connection = self.connection()
        try:
            [version] = connection.execute("PRAGMA data_version").fetchone()
        except SQLITE_ERRORS as error:
            self.failed(error)
            return self.data_version() if not self._failing else None
        return None if self._failing else (self._place if self._connection else self._refused, version)

    def close(self) -> None:
        """Safe to call twice."""
        self._drop()
        self._stand_in.close()

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(*SQLITE_ERRORS):
                self._connection.close()
            self._connection = None
            self.turns += 1

    def _say(self, level: int, reason: str, how_long: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            message = "%s cannot be read: %s; contexts are answered from the queue alone %s"
            log.log(level, message, self._path, reason, how_long)


def _state_of(status: os.stat_result) -> Hashable:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
