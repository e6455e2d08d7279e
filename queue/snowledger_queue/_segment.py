"""One active segment: append, roll back, seal. Blocking; the writer runs it off the event loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import _platform
from ._errors import QueueWriteError, SpoolError
from ._names import SegmentName

if TYPE_CHECKING:
    from pathlib import Path

    from ._filesystem import File, Filesystem

_CREATE_ATTEMPTS = 8
"""A new name can be lost to a recovering process between creation and lock; twice in a row is already unlikely."""


class ActiveSegment:
    """The segment that one writer appends to, from its creation to its sealing.

    ``size`` is the last good offset: everything before it is on stable storage and acknowledged.
    """

    def __init__(self, filesystem: Filesystem, folder: Path, name: SegmentName, file: File) -> None:
        self._filesystem = filesystem
        self._folder = folder
        self._name = name
        self._file = file
        self.size = 0
        self.events = 0
        self.usable = True
        """False after a failed flush or roll-back: the file must never be written again."""
        self._opened = time.monotonic()

    @classmethod
    def create(cls, filesystem: Filesystem, folder: Path, name: SegmentName) -> ActiveSegment:
        """Create the file, lock it and make its name durable.

        Raises:
            QueueWriteError: the file system refused (``__cause__`` is its ``OSError``); nothing is left locked.
        """
        file = None
        try:
            for _ in range(_CREATE_ATTEMPTS):
                file = filesystem.create(folder / name.active)
                if file is not None:
                    filesystem.sync_folder(folder)
                    return cls(filesystem, folder, name, file)
                name = name._replace(sequence=name.sequence + 1)
        except OSError as error:
            if file is not None:
                file.close()
            message = f"cannot create a segment: {error.strerror or error}"
            raise QueueWriteError(message) from error
        message = f"lost {_CREATE_ATTEMPTS} new segment names in a row to other processes"
        raise QueueWriteError(message)

    @property
    def sequence(self) -> int:
        """The sequence number that the segment got."""
        return self._name.sequence

    def age(self) -> float:
        """Seconds since its creation, on the monotonic clock (a wall clock may jump)."""
        return time.monotonic() - self._opened

    def append(self, lines: bytes, events: int) -> None:
        """Write the lines and flush them; on return they survive power loss.

        Raises:
            QueueWriteError: they are not acknowledged. After a failed write the file is back at its last good
                offset and ``usable``; after a failed flush it is not, for the kernel may have dropped the pages
                and would report the next flush as good.
        """
        try:
            self._write(lines)
        except OSError as error:
            self._roll_back()
            message = f"cannot write to the queue: {error.strerror or error}"
            raise QueueWriteError(message) from error
        try:
            self._file.sync()
            names = self._file.links()
        except OSError as error:
            self.abandon()
            message = f"cannot flush the queue to stable storage: {error.strerror or error}"
            raise QueueWriteError(message) from error
        if names == 0:
            self.abandon()
            message = "the active segment was deleted under its writer"
            raise QueueWriteError(message)
        self.size += len(lines)
        self.events += events

    def seal(self) -> Path | None:
        """Give the file its sealed name, which is returned, and close it; an empty one is removed.

        Raises:
            SpoolError: the file could not be renamed. Nothing is lost: it stays as an active segment without a
                writer, which recovery seals.
        """
        self.usable = False
        active = self._folder / self._name.active
        sealed = self._folder / self._name.sealed(self.events) if self.events else None
        try:
            if not _platform.RENAMES_OPEN_FILES:
                self._file.close()
            if sealed is None:
                self._filesystem.remove(active)
            else:
                self._filesystem.rename(active, sealed)
            self._filesystem.sync_folder(self._folder)
        except OSError as error:
            message = f"sealing {active} failed: {error.strerror or error}; recovery finishes it if it is not done"
            raise SpoolError(message) from error
        finally:
            self._file.close()
        return sealed

    def abandon(self) -> None:
        """Close the file as it is; recovery seals it."""
        self.usable = False
        self._file.close()

    def _write(self, data: bytes) -> None:
        while data:
            data = data[self._file.write(data) :]

    def _roll_back(self) -> None:
        try:
            self._file.truncate(self.size)
        except OSError:
            self.abandon()
