"""A `Filesystem` in memory with a page cache: what was not flushed may be gone, torn or zero-filled after a crash."""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from snowledger_queue import File

SHORT = -1
"""A write that stores only a part and says so."""

TAKEN = -2
"""A creation that another process takes away before it is locked."""


_STEP_NS = 10_000_000
"""The coarsest that Linux has."""


class Killed(BaseException):
    """The process died inside a file-system call."""


@dataclass(eq=False, slots=True)
class _Inode:
    content: bytearray = field(default_factory=bytearray)
    stable: bytes = b""
    """What is on the disk for certain."""
    dropped: list[tuple[int, int]] = field(default_factory=list)
    """Ranges whose flush failed: the kernel calls them clean, and no later flush writes them."""
    holder: _MemoryFile | None = None
    written: int = 0

    def unflushed(self) -> int:
        """Where the cache and the disk begin to differ."""
        return len(os.path.commonprefix([bytes(self.content), self.stable]))  # noqa: RUF071 - bytes, not paths

    def flush(self) -> None:
        stable = bytearray(self.content)
        for start, end in self.dropped:
            stable[start:end] = bytes(end - start)
        self.stable = bytes(stable)

    def crash(self, random: Random) -> None:
        """Choose one of the contents that the disk may hold after power loss."""
        first = self.unflushed()
        left = bytearray(self.stable)
        if random.random() < 2 / 3:  # some of the cached pages were written back
            left = self.content[: random.randint(first, len(self.content))]
            if random.random() < 1 / 2:  # in any order, so that a hole of zeros may come first
                start, end = sorted(random.randint(first, max(first, len(left))) for _ in range(2))
                left[start:end] = bytes(end - start)
            for start, end in self.dropped:
                left[start:end] = bytes(len(left[start:end]))
        self.content, self.stable, self.dropped, self.holder = left, bytes(left), [], None


@dataclass(eq=False, slots=True)
class _MemoryFile:
    filesystem: MemoryFilesystem
    inode: _Inode
    process: int

    def write(self, data: bytes | memoryview) -> int:
        fault = self.filesystem.take_fault("write", SHORT)
        self.inode.written = _clock()
        count = len(data)
        if fault == SHORT and count > 1:
            count = self.filesystem.random.randint(1, count - 1)
        if self.filesystem.dies():
            self.inode.content += data[: self.filesystem.random.randint(0, count)]
            raise Killed
        self.inode.content += data[:count]
        return count

    def sync(self) -> None:
        try:
            self.filesystem.take_fault("sync")
        except OSError:
            self.inode.dropped.append((self.inode.unflushed(), len(self.inode.content)))
            self.filesystem.flush_failed.append(self.inode)
            raise
        if self.filesystem.dies() and self.filesystem.random.random() < 1 / 2:
            raise Killed
        self.inode.flush()
        self.filesystem.die_after()

    def truncate(self, size: int) -> None:
        self.filesystem.take_fault("truncate")
        self.filesystem.die_before()
        del self.inode.content[size:]
        self.inode.written = _clock()
        self.inode.dropped = [(a, min(b, size)) for a, b in self.inode.dropped if a < size]
        self.filesystem.die_after()

    def links(self) -> int:
        return list(self.filesystem.cached.values()).count(self.inode)

    def close(self) -> None:
        if self.inode.holder is self:
            self.inode.holder = None


class MemoryFilesystem:
    """Files of several processes; ``process`` is the one that calls."""

    def __init__(self) -> None:
        self.random = Random(0)
        self.process = 0
        self.cached: dict[Path, _Inode] = {}
        self.stable: dict[Path, _Inode] = {}
        self.flush_failed: list[_Inode] = []
        self._pending: list[tuple[Path, Path | None, _Inode]] = []
        """Name changes not flushed yet: this name is gone, that one (if any) is the file's now."""
        self._faults: dict[str, deque[int]] = {}
        self._calls_left: int | None = None
        self._dying = False
        self._names_changed = 0

    # Faults

    def inject(self, call: str, *faults: int) -> None:
        """Let the next calls of that name fail: with an errno, `SHORT` or `TAKEN`."""
        self._faults.setdefault(call, deque()).extend(faults)

    def kill_in(self, calls: int) -> None:
        """Raise `Killed` in the n-th changing call from now, before, amid or after its effect."""
        self._calls_left = calls

    def stop_faults(self) -> None:
        self._faults.clear()
        self._calls_left = None

    def end_process(self, process: int) -> None:
        """Release the locks of a process; what it wrote stays in the cache."""
        self._dying = False
        for inode in self.cached.values():
            if inode.holder is not None and inode.holder.process == process:
                inode.holder = None

    def crash(self, seed: int) -> None:
        """Lose power: all processes end, and of what was not flushed anything may be lost."""
        self.random = Random(seed)
        self._dying = False
        share = self.random.choice([0, 0.5, 1])
        for gone, name, inode in self._pending:
            if self.random.random() < share:
                _rename(self.stable, gone, name, inode)
        self._pending.clear()
        self.cached = dict(self.stable)
        for inode in dict.fromkeys(self.cached.values()):
            inode.crash(self.random)

    def flip_bit(self, path: Path, bit: int) -> None:
        """Damage the file on the disk."""
        inode = self.cached[path]
        inode.content[bit // 8] ^= 1 << bit % 8
        inode.flush()

    def peek(self, path: Path) -> bytes:
        """The content that readers see; never fails."""
        return bytes(self.cached[path].content)

    def take_fault(self, call: str, *harmless: int) -> int:
        faults = self._faults.get(call)
        fault = faults.popleft() if faults else 0
        if fault and fault not in harmless:
            raise OSError(fault, os.strerror(fault))
        return fault

    def dies(self) -> bool:
        """Count a changing call; whether the process dies in it."""
        if self._calls_left is not None:
            self._calls_left -= 1
            if self._calls_left <= 0:
                self._calls_left = None
                self._dying = True
        return self._dying

    def die_before(self) -> None:
        if self.dies() and self.random.random() < 1 / 2:
            raise Killed

    def die_after(self) -> None:
        if self._dying:
            raise Killed

    # Filesystem

    def create(self, path: Path) -> File | None:
        fault = self.take_fault("create", TAKEN)
        self.die_before()
        if path in self.cached:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        self._change(path, path, _Inode())
        self.die_after()
        return None if fault == TAKEN else self._lock(path)

    def claim(self, path: Path) -> File | None:
        self.take_fault("claim")
        if path not in self.cached or self.cached[path].holder is not None:
            return None
        return self._lock(path)

    def read(self, path: Path, offset: int = 0) -> bytes:
        self.take_fault("read")
        self._require(path)
        return self.peek(path)[offset:]

    def size(self, path: Path) -> int:
        self._require(path)
        return len(self.cached[path].content)

    def look(self, path: Path) -> tuple[int, int]:
        return self.size(path), self.cached[path].written

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in self.cached if path.parent == folder)

    def names_changed(self, folder: Path) -> int:  # noqa: ARG002 - of all folders
        return self._names_changed

    def free(self, folder: Path) -> int:  # noqa: ARG002 - memory has room
        return 2**40

    def rename(self, source: Path, target: Path) -> None:
        self.take_fault("rename")
        self.die_before()
        self._require(source)
        self._change(source, target, self.cached[source])
        self.die_after()

    def remove(self, path: Path) -> None:
        self.take_fault("remove")
        self.die_before()
        if path in self.cached:
            self._change(path, None, self.cached[path])
        self.die_after()

    def sync_folder(self, folder: Path) -> None:
        self.take_fault("sync_folder")
        self.die_before()
        for gone, name, inode in self._pending:
            if gone.parent == folder:
                _rename(self.stable, gone, name, inode)
        self._pending = [change for change in self._pending if change[0].parent != folder]
        self.die_after()

    def _lock(self, path: Path) -> File:
        inode = self.cached[path]
        inode.holder = _MemoryFile(self, inode, self.process)
        return inode.holder

    def _require(self, path: Path) -> None:
        if path not in self.cached:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    def _change(self, gone: Path, name: Path | None, inode: _Inode) -> None:
        _rename(self.cached, gone, name, inode)
        self._names_changed = _clock()
        self._pending.append((gone, name, inode))


def _clock() -> int:
    """The time in steps, as a kernel stamps files."""
    return time.time_ns() // _STEP_NS * _STEP_NS


def _rename(names: dict[Path, _Inode], gone: Path, name: Path | None, inode: _Inode) -> None:
    names.pop(gone, None)
    if name is not None:
        names[name] = inode
