"""How much lies in a spool, told by names and sizes alone."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ._errors import UnsafeFileError
from ._names import parse_segment_name

if TYPE_CHECKING:
    from ._spool import Spool

LINE_BYTES = 400
"""Taken for a line of an active segment while no sealed one says otherwise; the benchmarks' event has 378."""


class Load(NamedTuple):
    """What a spool holds at one moment, by all its writers."""

    events: int
    """Lines that wait; those of active segments are estimated by their bytes."""
    bytes: int
    oldest_age_s: float
    """Age of the oldest segment's first event, by the wall clock; 0 when the queue is empty."""
    flow_age_s: float
    """The same without what younger segments have overtaken: the uploader keeps that back, and loads all else."""
    free_bytes: int
    """What the disk has left for this user."""

    def plus(self, events: int, size: int) -> Load:
        """The same with so much more in it."""
        return self._replace(
            events=self.events + events, bytes=self.bytes + size, free_bytes=max(0, self.free_bytes - size)
        )


class LoadMeter:
    """Measures a spool again and again. Blocking; one call at a time.

    A sealed segment never changes, so each is looked at once: a backlog of thousands costs a listing of its names.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._sealed: dict[str, tuple[int, int]] = {}
        """By name the events and bytes of those that were looked at; below their sums."""
        self._events = self._bytes = 0
        self._overtaken: set[str] = set()

    def measure(self) -> Load:
        """What the spool holds now.

        Raises:
            OSError: the queue's folder cannot be listed, or the disk not be asked.
        """
        names = self._spool.filesystem.names(self._spool.queue)
        there = set(names)
        gone = self._sealed.keys() - there
        for name in gone:
            self._add(*self._sealed.pop(name), sign=-1)
        # Names sort by age.
        if gone:
            youngest = max(gone)
            self._overtaken = {name for name in self._sealed if name < youngest or name in self._overtaken}
        active: dict[str, int] = {}
        for name in there - self._sealed.keys():
            parsed = parse_segment_name(name)
            if parsed is not None:
                # Else it was sealed or drained since the listing, or is no segment of ours.
                with suppress(OSError, UnsafeFileError):
                    size = self._spool.filesystem.size(self._spool.queue / name)
                    if parsed.events is None:
                        active[name] = size
                    else:
                        self._sealed[name] = parsed.events, size
                        self._add(parsed.events, size)
        # Not so the name of an empty file, nor one that promises nothing.
        mean = self._bytes / self._events if self._bytes and self._events else LINE_BYTES
        size = sum(active.values())
        # Looked for from the oldest on.
        oldest = next((name for name in names if name in self._sealed or name in active), "")
        flowing = (name for name in names if name not in self._overtaken)
        return Load(
            self._events + round(size / mean),
            self._bytes + size,
            _age_s(oldest),
            _age_s(next((name for name in flowing if name in self._sealed or name in active), "")),
            self._spool.filesystem.free(self._spool.home),
        )

    def _add(self, events: int, size: int, sign: int = 1) -> None:
        self._events += sign * events
        self._bytes += sign * size


def _age_s(name: str) -> float:
    parsed = parse_segment_name(name)
    return 0.0 if parsed is None else max(0.0, time.time() - parsed.opened_ms / 1000)
