"""The kill switch as the query runner obeys it, and the budget that turns it on."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from snowledger_queue import OPERATIONAL_CUSTOMER, KillSwitch, new_event, timestamp

if TYPE_CHECKING:
    from snowledger_queue import Origin, RunnerTickets

    from ._own_events import OwnEvents

log = logging.getLogger(__name__)

CREDITS_PER_S = 1 / 3600
"""What a warehouse of size XS uses while it runs. DuckDB costs nothing: there the seconds for which queries ran stand
in for it, so the limit bounds how much of this machine they get."""

WINDOW = timedelta(hours=1)
"""Over which what queries used is added up."""

_LOOK_S = 1.0
"""How often the hour's queries are added up: some microseconds for each of them."""


def credits_of(seconds: float) -> float:
    """The estimated credits of a query that ran so long, by itself."""
    return round(seconds * CREDITS_PER_S, 9)


class Budget:
    """Compares what queries used within an hour with the limit. Blocking; for one thread at a time."""

    def __init__(self, tickets: RunnerTickets, events: OwnEvents, origin: Origin, credits_per_hour: float) -> None:
        self._tickets = tickets
        self._events = events
        self._origin = origin
        self._limit = credits_per_hour
        self._seen: KillSwitch | None = None
        self._look_at = 0.0

    def look(self) -> bool:
        """Whether queries may run; turns the kill switch on when the limit is passed.

        After somebody turned it off, only what is used from then on counts: to turn it off is to allow as much again.

        Raises:
            snowledger_queue.StateError: that cannot be said now.
        """
        switch = self._tickets.kill_switch()
        if not switch.on and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_S
            now = datetime.now(UTC)
            since = max(timestamp(now - WINDOW), switch.since or "")
            spent_s = self._tickets.spent(since, timestamp(now))
            if spent_s * CREDITS_PER_S > self._limit:
                switch = self._turn_on(spent_s, timestamp(now))
        if switch != self._seen and (switch.on or self._seen is not None):
            if switch.on:
                log.warning("the kill switch is on (%s): %s; no query runs, loading goes on", switch.by, switch.reason)
            else:
                log.info("the kill switch is off")
        self._seen = switch
        if switch.on:
            # Whoever turned it on may not have been able to, and what is queued may be of an older state.db.
            self._tickets.cancel_all(timestamp(datetime.now(UTC)))
        return not switch.on

    def _turn_on(self, spent_s: float, now: str) -> KillSwitch:
        used = spent_s * CREDITS_PER_S
        reason = (
            f"queries ran for {spent_s:.1f} s within an hour, estimated as {used:.4g} credits (1 for each hour);"
            f" the limit is {self._limit:g}"
        )
        if self._tickets.set_kill_switch(on=True, reason=reason, by="budget", now=now):
            features = {"on": True, "reason": reason, "by": "budget"}
            event = new_event(
                self._origin,
                activity="cdesk.kill_switch_changed",
                customer=OPERATIONAL_CUSTOMER,
                feature_json=features,
            )
            try:
                self._events.put(event)
            except OSError as error:
                log.warning("cannot log that the kill switch was turned on: %s", error)
        return self._tickets.kill_switch()
