"""What is logged of the breaker: few events, however long the warehouse is away, and none about themselves."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from snowledger_queue import OPERATIONAL_CUSTOMER, QueueError, new_event

from ._breaker import CLOSED, OPEN, THRESHOLD, Breaker

if TYPE_CHECKING:
    from snowledger_queue import Event, Origin

    from ._own_events import OwnEvents

log = logging.getLogger(__name__)


class BreakerEvents:
    """Makes an event when the breaker opens, one when it closes, and between them one at probe 1, 2, 4, 8 and so on.

    That is some fifteen in a day. As long as only batches of the uploader's own events fail there is none: with a
    warehouse that comes and goes, each event would otherwise bring about the next one.
    """

    def __init__(self, breaker: Breaker, events: OwnEvents, origin: Origin) -> None:
        self._breaker = breaker
        self._events = events
        self._origin = origin
        self._told_s: float | None = None
        self._next_probe = 1
        self._waiting: list[Event] = []

    def changed(self) -> None:
        """Look at the breaker, which has changed its state. Takes microseconds."""
        breaker = self._breaker
        probes = max(0, breaker.failures - THRESHOLD)
        if breaker.state == CLOSED:
            if self._told_s is not None:
                away_s = round(time.monotonic() - self._told_s, 3)
                log.warning("the warehouse is back after %.1f s", away_s)
                self._make("cdesk.retry_attempted", {"outcome": "succeeded", "away_s": away_s})
            self._told_s = None
            self._next_probe = 1
        elif self._told_s is None and breaker.foreign:
            self._told_s = time.monotonic()
            log.warning("the warehouse is away, calls to it are spaced: %s", breaker.away())
            features = {"failures": breaker.failures, "reason": str(breaker.away()), "fallback": "events stay queued"}
            self._make("cdesk.fallback_triggered", features)
        elif self._told_s is not None and breaker.state == OPEN and probes >= self._next_probe:
            self._next_probe = 2 * probes
            self._make(
                "cdesk.retry_attempted",
                {"outcome": "failed", "probes": probes, "next_in_s": round(breaker.wait_s(), 3)},
            )

    def put(self) -> None:
        """Leave in the queue what is to be told. Blocking. Never raises; what cannot be put now is tried next time."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            self._events.put(*waiting)
        except OSError as error:
            self._waiting = waiting + self._waiting
            log.warning("cannot log what the breaker did: %s", error)

    def _make(self, activity: str, features: dict[str, object]) -> None:
        features = {"component": "warehouse", **features}
        with suppress(QueueError):  # the words of an error may be no text; that it is away must not be what fails
            self._waiting.append(
                new_event(self._origin, activity=activity, customer=OPERATIONAL_CUSTOMER, feature_json=features)
            )
