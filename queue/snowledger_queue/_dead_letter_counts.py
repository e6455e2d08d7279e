"""How many dead letters there are, without reading them again and again."""

from __future__ import annotations

import os
import time
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from ._dead_letter import decoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._spool import Spool

CLOCK_STEP_NS = 2 * 10**9
"""Two changes of a folder may have the same time, for file systems' clocks have steps, the coarsest of 2 s."""


class LetterCounts(NamedTuple):
    """What there is."""

    total: int
    classes: Mapping[str, int]
    oldest: str | None
    """When the oldest one was seen first, in the form of ``ts``."""
    unread: tuple[str, ...]
    """Paths of damaged files; what is in them is not counted."""


class _Counted(NamedTuple):
    """One file of letters."""

    mark: tuple[int, int, int]
    classes: Counter[str]
    oldest: str | None
    """None: it is damaged."""


class DeadLetterCounter:
    """Counts the letters of a spool. Whoever asks often keeps one: it reads only files that have changed. Blocking."""

    def __init__(self, spool: Spool) -> None:
        self._folder = spool.dead_letters
        self._files: dict[str, _Counted] = {}
        self._counts = self._sum()
        self._changed_ns = 0

    def counts(self) -> LetterCounts:
        """Count."""
        changed_ns = self._folder.stat().st_mtime_ns
        if changed_ns != self._changed_ns or time.time_ns() - changed_ns < CLOCK_STEP_NS:
            files = self._counted()
            if files != self._files:
                self._files = files
                self._counts = self._sum()
            self._changed_ns = changed_ns
        return self._counts

    def _counted(self) -> dict[str, _Counted]:
        found = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(".ndjson"):
                    try:
                        status = entry.stat()
                        mark = (status.st_ino, status.st_size, status.st_mtime_ns)
                        known = self._files.get(entry.name)
                        found[entry.name] = known if known and known.mark == mark else _count(entry.path, mark)
                    except FileNotFoundError:
                        continue  # forgotten since the listing
        return found

    def _sum(self) -> LetterCounts:
        classes: Counter[str] = Counter()
        for file in self._files.values():
            classes.update(file.classes)
        oldest = min((file.oldest for file in self._files.values() if file.oldest is not None), default=None)
        unread = sorted(str(self._folder / name) for name, file in self._files.items() if file.oldest is None)
        return LetterCounts(classes.total(), classes, oldest, tuple(unread))


def _count(path: str, mark: tuple[int, int, int]) -> _Counted:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - there may be many thousands
        content = file.read()
    try:
        letters = [decoded(line) for line in content.splitlines()]
        oldest = min(letter.first_seen for letter in letters)
        if datetime.fromisoformat(oldest).tzinfo is not None:
            return _Counted(mark, Counter(letter.error_class for letter in letters), oldest)
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return _Counted(mark, Counter(), None)
