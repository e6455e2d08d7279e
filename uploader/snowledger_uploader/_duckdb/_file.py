"""The DuckDB instance of a process on its file, shared by the loader and the queries.

DuckDB refuses to open a file twice, also within one process. So there is one instance, which is opened when the first
user comes and closed when the last one goes; each user has a cursor, which is a connection of its own.
"""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import duckdb

from snowledger_ddl import DdlError, apply
from snowledger_uploader._errors import WarehouseRefusedError, WarehouseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from snowledger_ddl import Statement

    Applied = Callable[[Sequence[Statement]], None]

MEMORY_LIMIT = "256MB"
"""Half of the uploader's 512 MiB. A batch of ``_warehouse.BATCH_BYTES`` of small events fits; one that does not
is halved.
"""

MAX_THREADS = 4
"""The NDJSON reader takes 32 MiB for each thread: with six the memory limit is used up before a row is read."""

ROW_GROUP_ROWS = 30_720
"""A quarter of DuckDB's default. What a batch leaves over its last whole group is compressed when the file is closed,
by one thread: with 122,880 rows a group 1 M events took half as long again, and 1.5 times the disk."""

CATALOG = "warehouse"
"""The file's name inside the instance."""


class _Place(NamedTuple):
    """What tells a file from another one while it is open."""

    device: int
    inode: int


class DuckDBFile:
    """The instance. Blocking; threads may share it."""

    def __init__(self, path: Path, work: Path, applied: Applied = lambda _ran: None) -> None:
        """``work`` is a private folder for what does not fit into memory; ``applied`` hears what its schema needed."""
        self.path = path
        self._work = work
        self._applied = applied
        self._turn = Lock()
        self._instance: duckdb.DuckDBPyConnection | None = None
        self._place: _Place | None = None
        self._users = 0
        self._broken = False

    @property
    def shared(self) -> bool:
        """Whether there is more than one user, so that what is short now may be there later."""
        return self._users > 1

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for a new user, who gives it back. The first one opens the file.

        Raises:
            WarehouseRefusedError: its schema cannot be brought up to date.
            WarehouseUnavailableError: it must be opened anew, which has to wait for its users.
            duckdb.Error, OSError: it cannot be opened.
        """
        with self._turn:
            if self._instance is not None and (self._broken or _place(self.path) != self._place):
                message = f"{self.path} must be opened anew, which waits for {self._users} users of it"
                raise WarehouseUnavailableError(message)
            instance = self._instance or self._open()
            try:
                cursor = instance.cursor()
                cursor.execute(f"USE {CATALOG}")
                # Long statements would draw on a terminal that belongs to the command. (Not an option of `connect`.)
                cursor.execute("SET SESSION enable_progress_bar = false")
            except duckdb.Error:
                self._close_unused()
                raise
            self._users += 1
            return cursor

    def require_place(self) -> None:
        """Make sure that what was just written is in the file of this name.

        Raises:
            WarehouseUnavailableError: another file is there by now, or none; give the cursor back and take a new one.
        """
        if _place(self.path) != self._place:
            message = f"{self.path} was deleted or replaced while it was open"
            raise WarehouseUnavailableError(message)

    def give_back(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """End a user's connection, which rolls back what it has open. The last one closes the file."""
        with self._turn:
            with suppress(duckdb.Error):
                cursor.close()
            self._users -= 1
            self._close_unused()

    def failed(self, error: duckdb.Error) -> None:
        """Note an error of a user's: after some, DuckDB refuses all further work until it is opened anew."""
        if isinstance(error, duckdb.FatalException | duckdb.InternalError):
            self._broken = True

    def _open(self) -> duckdb.DuckDBPyConnection:
        path = self.path
        if path.is_file() and path.stat().st_size == 0:
            # What a full disk leaves of a file that was being created; DuckDB would refuse it for ever.
            path.unlink()
        created = not path.exists()
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY_LIMIT,
            "threads": min(MAX_THREADS, os.cpu_count() or 1),
            "temp_directory": str(self._work / "duckdb"),
            # Row order inside a batch carries no meaning, and keeping it costs memory. Queries ask for it.
            "preserve_insertion_order": False,
            # The uploader loads files of its own only; nothing is ever fetched.
            "autoinstall_known_extensions": False,
        }
        self._broken = False
        instance = self._instance = duckdb.connect(config=settings)
        try:
            quoted = str(path).replace("'", "''")
            instance.execute(f"ATTACH '{quoted}' AS {CATALOG} (ROW_GROUP_SIZE {ROW_GROUP_ROWS}); USE {CATALOG}")
            if created:
                path.chmod(0o600)
            self._place = _place(path)
            # At every opening (7 ms when nothing is to do): the file may have been deleted or restored in between.
            ran = apply(instance, "duckdb")
            if ran:
                self._applied(ran)
        except DdlError as error:
            self._close_unused()
            message = f"cannot bring the schema of {path} up to date: {error}"
            raise WarehouseRefusedError(message) from error
        except (duckdb.Error, OSError):
            self._close_unused()
            raise
        return instance

    def _close_unused(self) -> None:
        if self._instance is not None and self._users == 0:
            instance, self._instance = self._instance, None
            # Closing checkpoints; when that fails the write-ahead log still holds what was committed.
            with suppress(duckdb.Error):
                instance.close()


def _place(path: Path) -> _Place | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return _Place(status.st_dev, status.st_ino)
