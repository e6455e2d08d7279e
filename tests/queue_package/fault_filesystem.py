"""The real file system with a hand on some of its calls."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from threading import Event

from snowledger_queue import File, OsFilesystem

SHORT = -1
"""A write that stores a part."""


class FaultFile:
    """A real file of which single calls fail, or wait for a gate."""

    def __init__(self, file: File, filesystem: FaultFilesystem) -> None:
        self._file = file
        self._filesystem = filesystem

    def write(self, data: bytes) -> int:
        fault = self._filesystem.take("write")
        if isinstance(fault, BaseException):
            raise fault
        return self._file.write(data[: len(data) // 2] if fault == SHORT else data)

    def sync(self) -> None:
        self._filesystem.syncing.set()
        if not self._filesystem.gate.wait(30):
            raise TimeoutError
        self._filesystem.syncs += 1
        self._filesystem.check("sync")
        self._file.sync()

    def truncate(self, size: int) -> None:
        self._filesystem.check("truncate")
        self._file.truncate(size)

    def links(self) -> int:
        return self._file.links()

    def close(self) -> None:
        self._file.close()


class FaultFilesystem(OsFilesystem):
    """``gate`` holds every flush back while it is cleared; ``inject`` lets next calls fail."""

    def __init__(self) -> None:
        self.gate = Event()
        self.gate.set()
        self.syncing = Event()
        self.syncs = 0
        self._faults: dict[str, deque[BaseException | int]] = {}

    def inject(self, call: str, *faults: BaseException | int) -> None:
        self._faults.setdefault(call, deque()).extend(faults)

    def left(self, call: str) -> int:
        """How many faults of the call are still to come."""
        return len(self._faults.get(call, ()))

    def take(self, call: str) -> BaseException | int | None:
        faults = self._faults.get(call)
        return faults.popleft() if faults else None

    def check(self, call: str) -> None:
        fault = self.take(call)
        if isinstance(fault, BaseException):
            raise fault

    def create(self, path: Path) -> File | None:
        self.check("create")
        file = super().create(path)
        return None if file is None else FaultFile(file, self)

    def rename(self, source: Path, target: Path) -> None:
        self.check("rename")
        super().rename(source, target)

    def sync_folder(self, folder: Path) -> None:
        self.check("sync_folder")
        super().sync_folder(folder)
