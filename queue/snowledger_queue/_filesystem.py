"""Every file-system call of the queue, behind one protocol: the seam where tests inject faults."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from . import _platform
from ._errors import UnsafeFileError

if TYPE_CHECKING:
    from pathlib import Path


class File(Protocol):
    """An open file of the spool that this process has locked."""

    def write(self, data: bytes) -> int:
        """Append what fits and return how many bytes that was (as ``write(2)``). Raises ``OSError``."""
        ...

    def sync(self) -> None:
        """Put everything written on stable storage. Raises ``OSError``; then never write this file again."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes; the next write goes there. Raises ``OSError``."""
        ...

    def links(self) -> int:
        """How many names the file has; 0 when somebody deleted it under its writer."""
        ...

    def close(self) -> None:
        """Close it, which releases the lock. May be called twice; never fails."""
        ...


class Filesystem(Protocol):
    """What the queue asks of a file system. Every method may raise ``OSError``."""

    def create(self, path: Path) -> File | None:
        """Create a private file and lock it; None when another process got hold of the new name first.

        Raises ``FileExistsError`` when the name is taken.
        """
        ...

    def claim(self, path: Path) -> File | None:
        """Lock an existing file for writing; None when a live process holds it or it is gone by now.

        Raises ``UnsafeFileError`` for anything but a plain file with one name.
        """
        ...

    def read(self, path: Path, offset: int = 0) -> bytes:
        """The bytes of a plain file from ``offset`` on. Raises ``UnsafeFileError`` for anything else."""
        ...

    def size(self, path: Path) -> int:
        """A plain file's size in bytes. Raises ``UnsafeFileError`` for anything else."""
        ...

    def look(self, path: Path) -> tuple[int, int]:
        """A plain file's size in bytes and when it was last written. Raises ``UnsafeFileError`` for anything else.

        The time counts nanoseconds in steps of a file system's clock, so two writes in a row may have the same.
        """
        ...

    def names(self, folder: Path) -> list[str]:
        """The names in the folder, sorted."""
        ...

    def names_changed(self, folder: Path) -> int:
        """When the folder's names last changed, as in ``look``."""
        ...

    def free(self, folder: Path) -> int:
        """Bytes that this user may still write on the folder's disk."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name in the same folder, replacing what has that name."""
        ...

    def remove(self, path: Path) -> None:
        """Delete the file; no error when it is gone already."""
        ...

    def sync_folder(self, folder: Path) -> None:
        """Make the folder's names durable."""
        ...


class _OsFile:
    """A locked descriptor, opened for appending."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    def sync(self) -> None:
        _platform.sync_data(self._descriptor)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def links(self) -> int:
        return os.fstat(self._descriptor).st_nlink

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            # It is closed whatever is reported, and what was acknowledged was flushed before.
            with suppress(OSError):
                os.close(descriptor)


class OsFilesystem:
    """The operating system's file system."""

    def create(self, path: Path) -> File | None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | _platform.OPEN_FLAGS
        return _locked(os.open(path, flags, _platform.PRIVATE_FILE), path)

    def claim(self, path: Path) -> File | None:
        flags = os.O_WRONLY | os.O_APPEND | _platform.OPEN_WITHOUT_WAITING | _platform.OPEN_FLAGS
        try:
            require_plain(os.lstat(path), path)
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            return None
        return _locked(descriptor, path)

    def read(self, path: Path, offset: int = 0) -> bytes:
        flags = os.O_RDONLY | _platform.OPEN_WITHOUT_WAITING | _platform.OPEN_FLAGS
        require_plain(os.lstat(path), path)
        with open(os.open(path, flags), "rb", buffering=0) as file:  # noqa: PTH123 - wraps a descriptor
            require_plain(os.fstat(file.fileno()), path)
            file.seek(offset)
            return file.read()

    def size(self, path: Path) -> int:
        status = os.lstat(path)
        require_plain(status, path)
        return status.st_size

    def look(self, path: Path) -> tuple[int, int]:
        status = os.lstat(path)
        require_plain(status, path)
        return status.st_size, status.st_mtime_ns

    def names(self, folder: Path) -> list[str]:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names only, ten times a second

    def names_changed(self, folder: Path) -> int:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116 - with every call; pathlib takes longer than the kernel

    def free(self, folder: Path) -> int:
        return shutil.disk_usage(folder).free

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def sync_folder(self, folder: Path) -> None:
        _platform.sync_folder(folder)


def require_plain(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        message = f"{path} is not a plain file with one name; it was left alone, move it out of the spool"
        raise UnsafeFileError(message)


def _locked(descriptor: int, path: Path) -> File | None:
    """Lock the descriptor and check that the path still names that file (it may have been renamed)."""
    try:
        if _platform.try_lock(descriptor):
            opened = os.fstat(descriptor)
            require_plain(opened, path)
            if os.path.samestat(opened, os.lstat(path)):
                return _OsFile(descriptor)
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
