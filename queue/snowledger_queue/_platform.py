"""What differs between Linux, macOS and Windows: flushing, folder flushing, private permissions.

Tried on Linux only; ``docs/architecture.md`` lists what is unverified elsewhere.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import portalocker

from ._errors import SpoolError

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700

RENAMES_OPEN_FILES = sys.platform != "win32"
"""Windows refuses to rename a file that is open, so there a segment is closed before it is renamed."""

OPEN_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
"""Never inherited by a child, never through a symbolic link (fault 23), never newline-translated."""

OPEN_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)
"""Opening a planted FIFO for reading would wait for a writer for ever; regular files ignore the flag."""


def try_lock(descriptor: int) -> bool:
    """Lock the open file for this process, without waiting; the lock goes with the last close. Raises ``OSError``."""
    try:
        portalocker.lock(descriptor, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked:
        return False
    except portalocker.LockException as error:
        if isinstance(error.args[0], OSError):
            raise error.args[0] from None
        raise OSError(error.strerror) from error
    return True


def sync_data(descriptor: int) -> None:
    """Put the file's bytes on stable storage."""
    if sys.platform == "darwin":
        # fsync on macOS leaves the bytes in the drive's cache; F_FULLFSYNC empties it (fsync(2) there).
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    elif sys.platform == "win32":
        os.fsync(descriptor)
    else:
        os.fdatasync(descriptor)


def sync_folder(path: Path) -> None:
    """Make created, renamed and removed names in the folder durable (a no-op on Windows, which cannot)."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | OPEN_FLAGS)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private_folder(path: Path) -> None:
    """Create the folder (and its parents) for this user alone, or check that it is private already.

    Raises:
        SpoolError: it cannot be created or written, is not a folder, belongs to somebody else, or others can
            enter it.
    """
    try:
        new = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        for folder in new:
            with suppress(PermissionError):  # a parent that may be written but not read
                sync_folder(folder.parent)
        status = path.stat()
    except OSError as error:
        message = f"cannot create the folder {path}: {error.strerror}; choose another with SNOWLEDGER_HOME"
        raise SpoolError(message) from error
    if sys.platform == "win32":
        return
    if status.st_uid != os.geteuid():
        message = f"{path} belongs to user id {status.st_uid}, not to this process's user {os.geteuid()}"
        raise SpoolError(message)
    if status.st_mode & 0o077:
        message = (
            f"{path} can be entered by other users (mode {status.st_mode & 0o777:o}, accepted: 700); "
            f"run: chmod 700 {path}"
        )
        raise SpoolError(message)
    # Also answers for read-only mounts and immutable folders, which stop even root.
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        message = f"{path} cannot be written (read-only, or mode {status.st_mode & 0o777:o})"
        raise SpoolError(message)
