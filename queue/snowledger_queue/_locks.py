"""Locks that go with their process: the one uploader of a spool, and the presence of servers."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import orjson

from . import _platform
from ._errors import LockHeldError, SpoolError, UnsafeFileError
from ._filesystem import require_plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ._spool import Spool

_MAX_HOLDER_BYTES = 4096
"""A holder's note is a short JSON object; whatever else lies there is not read whole."""

_ATTEMPTS = 5
_PROBE_S = 0.02
"""``lock_holder`` in another process holds a lock for microseconds while it looks; waiting 0.1 s tells it apart."""


class ProcessLock:
    """A lock file that this process holds until ``release`` or its end. Made by ``acquire``."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path, role: str) -> ProcessLock:
        """Take the lock, and leave a note of who holds it for those who come second.

        Raises:
            LockHeldError: a live process holds it; the message names it.
            SpoolError: the file cannot be opened.
            UnsafeFileError: it is not a plain file with one name; it was not touched.
        """
        for _ in range(_ATTEMPTS):
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _platform.OPEN_FLAGS, _platform.PRIVATE_FILE)
            except OSError as error:
                message = f"cannot open the lock file {path}: {error.strerror}"
                raise SpoolError(message) from error
            try:
                require_plain(os.fstat(descriptor), path)
            except UnsafeFileError:
                os.close(descriptor)
                raise
            # The file may have been deleted in between: then this lock would be one nobody else sees (fault 18).
            if _platform.try_lock(descriptor) and _still_named(descriptor, path):
                note = {
                    "role": role,
                    "pid": os.getpid(),
                    "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                }
                with suppress(OSError):  # the note is a courtesy, and who empties a full disk needs the lock
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, orjson.dumps(note))
                return cls(path, descriptor)
            os.close(descriptor)
            time.sleep(_PROBE_S)
        holder = _holder(path)
        message = f"{path} is held by process {holder.get('pid', 'unknown')} since {holder.get('since', 'unknown')}"
        raise LockHeldError(message, holder)

    def held(self) -> bool:
        """Whether the lock file is still the one that is locked; False when somebody deleted it."""
        return _still_named(self._descriptor, self._path)

    def release(self, *, remove: bool = False) -> None:
        """Give the lock up; ``remove`` deletes the file first (for files that are one process's own)."""
        if remove:
            _remove_locked(self._path)
        os.close(self._descriptor)


def lock_holder(path: Path) -> dict[str, object] | None:
    """The note of the live process that holds the lock; None when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR | _platform.OPEN_FLAGS)
    except FileNotFoundError:
        return None
    try:
        return None if _platform.try_lock(descriptor) else _holder(path)
    finally:
        os.close(descriptor)


@contextmanager
def server_presence(spool: Spool) -> Iterator[None]:
    """Show, as long as the context lasts and the process lives, that a server uses the spool.

    Raises:
        SpoolError: the folder is not writable.
    """
    path = spool.servers / f"{os.getpid()}-{time.time_ns():x}.lock"
    lock = ProcessLock.acquire(path, "server")
    try:
        yield
    finally:
        lock.release(remove=True)


def live_servers(spool: Spool) -> int:
    """How many servers use the spool; files of dead ones are removed."""
    return sum(not _removed_if_dead(path) for path in spool.servers.glob("*.lock"))


def _removed_if_dead(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | _platform.OPEN_FLAGS)
    except FileNotFoundError:
        return True
    try:
        dead = _platform.try_lock(descriptor)
        if dead:
            # Under the lock, so that a server just about to lock its new file finds it gone and makes another.
            _remove_locked(path)
        return dead
    finally:
        os.close(descriptor)


def _remove_locked(path: Path) -> None:
    with suppress(PermissionError):  # Windows keeps open files; left behind, it is a dead process's
        path.unlink(missing_ok=True)


def _still_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            note = orjson.loads(file.read(_MAX_HOLDER_BYTES))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
