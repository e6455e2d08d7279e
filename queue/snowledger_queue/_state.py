"""The file ``state.db``: its schema, how it is opened, and what becomes of a bad one.

It holds contexts and tickets. A file that is damaged or of another version is set aside and made anew: contexts are
rebuilt from the warehouse, tickets are lost. It is made under another name: wherever ``state.db`` is, it is whole.

Only the uploader, which is one for a spool, makes it and removes what SQLite left beside it. A server may set a damaged
one aside. Nobody opens it but SQLite: closing any other descriptor of it would drop the process's locks (POSIX).
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from . import _platform
from ._errors import StateError, UnsafeFileError
from ._filesystem import require_plain

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

VERSION = 3
"""Raised with every change of the schema; a file of another version is made anew."""

_MISSING = "it was not there"
"""Why ``state.db`` is made anew the first time."""

_SCHEMA = f"""
BEGIN;
-- cursor, as_of, pruned
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- By key, so that a customer's atoms lie side by side: of each subject and metric the one that counts, also when it
-- has ended, and those after it that have not begun. The value is the last column: a large one lies apart.
CREATE TABLE atoms (
  customer TEXT, subject TEXT, metric TEXT, recorded_at TEXT, atom_id TEXT,
  verified INTEGER NOT NULL, valid_from TEXT, valid_to TEXT, query_hash TEXT NOT NULL, value BLOB NOT NULL,
  PRIMARY KEY (customer, subject, metric, recorded_at, atom_id)
) WITHOUT ROWID;
CREATE TABLE recent (customer TEXT PRIMARY KEY, events BLOB NOT NULL);
CREATE TABLE activity_hours (
  customer TEXT, hour TEXT, activity TEXT, events INTEGER NOT NULL, PRIMARY KEY (customer, hour, activity)
) WITHOUT ROWID;
CREATE TABLE drained (stem TEXT PRIMARY KEY, confirmed_at TEXT NOT NULL) WITHOUT ROWID;
-- What may be large comes last.
CREATE TABLE tickets (
  number INTEGER PRIMARY KEY, ticket_id TEXT NOT NULL UNIQUE, customer TEXT NOT NULL, query_hash TEXT NOT NULL,
  status TEXT NOT NULL, submitted_at TEXT NOT NULL, started_at TEXT, finished_at TEXT, byte_cap INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0, cancel_requested INTEGER NOT NULL DEFAULT 0,
  rows_so_far INTEGER NOT NULL DEFAULT 0, row_count INTEGER, bytes INTEGER,
  truncated INTEGER NOT NULL DEFAULT 0, artifact INTEGER NOT NULL DEFAULT 0,
  query_tag TEXT NOT NULL, template TEXT NOT NULL, error TEXT,
  customers TEXT NOT NULL, columns TEXT, params TEXT NOT NULL, sample TEXT
);
CREATE INDEX tickets_of_query ON tickets (customer, query_hash, finished_at);
CREATE INDEX tickets_of_customer ON tickets (customer, submitted_at);
CREATE INDEX tickets_in_status ON tickets (status, submitted_at, customer);
CREATE INDEX tickets_by_end ON tickets (finished_at);
PRAGMA user_version = {VERSION};
COMMIT;
"""

_WRITER_WAIT_S = 5.0
"""Others hold the file's locks for milliseconds: who submits, the last one to close it, the first after a crash."""

_WAL_BYTES = 16 * 1024 * 1024
"""What the log keeps of its size after contexts were rebuilt at one go."""

_one_maker = Lock()
"""The uploader writes contexts and tickets in threads of their own; either may find the file missing."""

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What using a connection may raise; Python decodes SQLite's messages, which may quote a damaged schema."""


class UnusableStateError(sqlite3.DatabaseError):
    """The file is not a ``state.db`` of this version."""


class DamagedStateError(sqlite3.DatabaseError):
    """SQLite found nothing wrong, but what it read is not what was written."""


class Place(NamedTuple):
    """What tells a file from another one while somebody has it open."""

    device: int
    inode: int


def place(path: Path) -> Place | None:
    """Where the file is that has this name now; None when there is none. Raises ``OSError``."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return Place(status.st_dev, status.st_ino)


def connect(path: Path, wait_s: float) -> sqlite3.Connection:
    """Open the existing file and check that it is of this version.

    Raises:
        OSError, sqlite3.Error, UnicodeDecodeError: it cannot be opened now, or it is damaged (see ``is_damage``), or
            another was put in its place meanwhile.
    """
    before = place(path)
    _require_plain(path)
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, wait_s, isolation_level=None, check_same_thread=False, uri=True)
    try:
        _check(connection)
        if place(path) != before:
            # SQLite finds the log by name, so this may have been one file with the log of another.
            raise OSError("it was replaced while it was opened")  # noqa: TRY301 - closes the connection
    except BaseException as error:
        connection.close()
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            # The statements are right, so it is the file: "unsupported file format".
            raise DamagedStateError(str(error)) from error
        raise
    return connection


def stand_in() -> sqlite3.Connection:
    """An empty ``state.db`` in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.executescript(_SCHEMA)
    return connection


def connect_for_writing(path: Path) -> sqlite3.Connection:
    """Open the file, or make it anew and say why in the log. For the uploader alone.

    Raises:
        StateError: it can neither be used nor be replaced.
    """
    with _one_maker:
        reason = _MISSING
        try:
            if os.path.lexists(path):
                try:
                    return _set_up(connect(path, _WRITER_WAIT_S))
                except SQLITE_ERRORS as error:
                    if not (is_damage(path, error) or isinstance(error, UnusableStateError)):
                        raise
                    reason = f"{error}; it is now {set_aside(path).name}"
            _make(path)
            level = logging.INFO if reason == _MISSING else logging.ERROR
            message = "%s was made anew (%s); contexts are rebuilt from the warehouse, its tickets are lost"
            log.log(level, message, path, reason)
            return _set_up(connect(path, _WRITER_WAIT_S))
        except (OSError, *SQLITE_ERRORS) as error:
            raise state_error(path, error) from error


def set_aside(path: Path) -> Path:
    """Give a bad file another name, replacing an earlier one; the name. Raises ``OSError``."""
    aside = path.with_name(f"{path.name}.bad")
    path.replace(aside)
    return aside


def is_damage(path: Path, error: Exception) -> bool:
    """Whether the file's content is damaged, so that only a new file helps."""
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_READONLY:
        # Of a version that only a later SQLite may write, its header says, if its mode does not forbid it.
        return os.access(path, os.W_OK)
    if code is not None:
        return code & 0xFF in _DAMAGE
    # Python's own error for text that is not UTF-8 has no code.
    return isinstance(error, (DamagedStateError, UnicodeDecodeError)) or type(error) is sqlite3.OperationalError


def state_error(path: Path, error: Exception) -> StateError:
    """What to raise instead."""
    lasting = is_damage(path, error) or isinstance(error, (UnusableStateError, sqlite3.ProgrammingError))  # closed
    return StateError(f"{path} cannot be used: {error}", transient=not lasting)


def _require_plain(path: Path) -> None:
    for name in (path, *_beside(path)):
        try:
            status = os.lstat(name)
        except FileNotFoundError:
            continue  # the last one to close the file removes what lies beside it
        try:
            require_plain(status, name)
        except UnsafeFileError:
            raise UnusableStateError(f"{name.name} is not a plain file with one name") from None


def _check(connection: sqlite3.Connection) -> None:
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        raise UnusableStateError(f"it has schema version {version}, this snowledger knows {VERSION}")
    if _schema(connection) != _own_schema():
        raise UnusableStateError("its tables are not those of its version")


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").fetchall()


@cache
def _own_schema() -> list[tuple[str, str]]:
    with closing(stand_in()) as model:
        return _schema(model)


def _set_up(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # Segments are deleted after a fold, so a loss of power must not take the fold back.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def _make(path: Path) -> None:
    draft = path.with_name(f"{path.name}.new")
    # What a crash left; the log of a file that is gone must not be taken for the new one's.
    for name in (draft, *_beside(draft), *_beside(path)):
        name.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | _platform.OPEN_FLAGS, _platform.PRIVATE_FILE))
    # SQLite gives -wal and -shm the mode of the file itself.
    with closing(sqlite3.connect(f"{draft.absolute().as_uri()}?mode=rw", isolation_level=None, uri=True)) as connection:
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        connection.execute("PRAGMA journal_mode = WAL")
    draft.replace(path)
    _platform.sync_folder(path.parent)


def _beside(path: Path) -> tuple[Path, Path]:
    """Where SQLite keeps the log and its index."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
