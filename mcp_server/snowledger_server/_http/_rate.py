"""How often one client may call: a token bucket for each."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from cachetools import LRUCache

from ._refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

BURST_S = 2.0
"""So many seconds' worth of calls may come at once: an assistant that begins asks for several things together."""

MAX_CLIENTS = 10_000
"""Buckets kept, in some 2 MB; the one that was not used for longest goes first, and by then it is full again."""


class Rates:
    """Counts the calls of each client."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._capacity = max(1.0, per_s * BURST_S)
        self._clock = clock
        # Of each client what was left in its bucket, and when.
        self._buckets: LRUCache[str, tuple[float, float]] = LRUCache(MAX_CLIENTS)

    def refusal(self, client: str) -> Refusal | None:
        """Count a call; the refusal when it is one too many, which says when the next one will be taken."""
        now = self._clock()
        left, then = self._buckets.get(client, (self._capacity, now))
        left = min(self._capacity, left + (now - then) * self._per_s)
        if left >= 1:
            self._buckets[client] = (left - 1, now)
            return None
        self._buckets[client] = (left, now)
        wait_s = math.ceil((1 - left) / self._per_s)
        return Refusal(
            429,
            f"Too many calls: {self._per_s:g} a second are taken. Nothing was stored; repeat the call in {wait_s} s.",
            ((b"retry-after", b"%d" % wait_s),),
        )
