"""A segment that was rejected alone, and how far the search for the rows at fault is. See ``_rejected``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from snowledger_queue import SealedSegment

STRIKES = 4
"""What a row is at fault with. A rejection that a load followed soon counts two, one that only came soon after a load
counts one: a warehouse that is broken for a while and mended rejects a good row once, and one that breaks again and
again may do so as soon as it has taken another."""

FIRST_RETRY_S, MAX_RETRY_S = 15.0, 900.0
"""How soon resting suspects are tried again when nothing was loaded meanwhile."""

ALERTS = 2
"""For one suspect at once, while none of its rows is known to be at fault: as many as are needed as proof that the
warehouse takes others, when nothing else is logged. More follow at growing intervals, as its retries do: a warehouse
that is broken for a while spends the first ones in vain."""


def pause_s(times: int) -> float:
    """How long to wait after so many in vain."""
    return min(FIRST_RETRY_S * 2.0 ** min(times, 20), MAX_RETRY_S)  # 20: more would be no number in the end


class Part(NamedTuple):
    """Lines of a suspect that are to be loaded."""

    start: int
    end: int
    strikes: int = 0
    """Of one line."""
    near: bool = False
    """Whether it was rejected soon after the last load."""


class Held(NamedTuple):
    """A line that was rejected alone."""

    line: int
    reason: str
    strikes: int
    loads: int
    """How many had succeeded then."""
    near: bool
    """Whether one of them had just done so: then it counts, however long the next one takes to come."""


class Suspect:
    """A segment that was rejected alone, and how far its search is."""

    def __init__(self, segment: SealedSegment, batch_id: str, reason: str, *, quiet: bool) -> None:
        self.segment = segment
        self.batch_id = batch_id
        self.reason = reason
        self.alerts = 0
        """How many were raised since one of its rows was found to be at fault."""
        self.alert_at = math.inf if quiet else 0.0
        """When the next one may be; never, for one that is quiet."""
        self.again: bool | None = None
        """Whether it is to be loaded with others once more; None while that was never tried."""
        self.lines = -1
        self.left: list[Part] = []
        self.held: list[Held] = []
        self.guilty: list[tuple[int, str]] = []
        self.loaded = False
        """Whether any of it is in the warehouse."""
        self.inserted = 0

    def begin(self, lines: int) -> None:
        """Start the search, unless it is under way: a sealed segment does not change, but its disk may lose lines."""
        if lines != self.lines:
            self.lines, self.left, self.held, self.guilty = lines, [Part(0, lines)], [], []

    def wake(self, loads: int, *, others: bool = False) -> None:
        """Judge the rejected rows since which anything was loaded, or have them tried again; the ``others``, too."""
        held, self.held = self.held, []
        for one in held:
            proven = one.loads < loads
            if proven and one.strikes >= STRIKES:
                self.guilty.append((one.line, one.reason))
                self.alerts = 0
                self.alert_at = math.inf if self.alert_at == math.inf else 0.0
            elif proven or others:
                # Without a load in between, the next rejection is the same one.
                strikes = one.strikes if proven else max(0, one.strikes - 2)
                self.left.append(Part(one.line, one.line + 1, strikes, near=one.near and not proven))
            else:
                self.held.append(one)

    def alert(self, now: float) -> bool:
        """Whether one is to be raised now."""
        if now < self.alert_at:
            return False
        self.alerts += 1
        self.alert_at = now + pause_s(self.alerts - ALERTS) if self.alerts >= ALERTS else now
        return True

    def has_work(self, loads: int) -> bool:
        return self.lines < 0 or bool(self.left) or not self.held or any(one.loads < loads for one in self.held)
