"""Where tools write events: the queue, and what keeps it from overflowing."""

from __future__ import annotations

import logging
import math
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import anyio
from anyio import to_thread

from snowledger_queue import (
    OPERATIONAL_CUSTOMER,
    SAMPLE_RATE,
    Load,
    LoadMeter,
    PressureGauge,
    QueueError,
    QueueFullError,
    new_event,
    open_writer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from snowledger_queue import Event, Origin, Pressure, PressureLimits, QueueWriter, Spool

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks at the spool, which other servers and the uploader change too. A look takes 0.05 ms, and 4 ms of a
worker thread when 5,000 segments wait."""

MAX_RETRY_S = 60
"""The longest that a client is told to stay away: it then hears of free room within a minute."""

_NOTHING = Load(0, 0, 0.0, 0.0, sys.maxsize)


class JournalStatistics(NamedTuple):
    """How it stands, and counters since it was opened."""

    pressure: Pressure
    refused: int
    """Calls that were refused for want of room."""
    sampled_out: int
    """Events that were left out."""


class Journal:
    """Takes events while there is room. Made by ``open_journal``.

    How full the spool is it learns once a second, from a look off the event loop; in between it adds what it took
    itself, so an append costs the same however much waits.
    """

    def __init__(self, spool: Spool, writer: QueueWriter, limits: PressureLimits, origin: Origin) -> None:
        self._writer = writer
        self._origin = replace(origin, source_system="snowledger")
        self._meter = LoadMeter(spool)
        self._one_look = anyio.CapacityLimiter(1)
        self._gauge = PressureGauge(limits)
        self._load = _NOTHING
        self._events = self._bytes = 0
        """What was taken since the look that gave ``_load``."""
        self._pressure = self._gauge.judge(_NOTHING)
        self._told = JournalStatistics(self._pressure, 0, 0)
        """What the last event ``cdesk.backpressure`` said, or would have said."""
        self._refusing_since = 0.0
        self._refused = self._sampled_out = 0
        self._complaint = ""

    @property
    def pressure(self) -> Pressure:
        """How the queue stands."""
        return self._pressure

    def statistics(self) -> JournalStatistics:
        """How it stands, and counters since it was opened."""
        return JournalStatistics(self._pressure, self._refused, self._sampled_out)

    async def append(self, event: Event) -> None:
        """Put the event on stable storage; on return it is acknowledged.

        Raises:
            snowledger_queue.QueueFullError: too much waits, or the disk is nearly full; nothing was stored.
            snowledger_queue.QueueError: as ``QueueWriter.append``.
        """
        if self._pressure.state == "refusing":
            self._refuse()
        self._events += 1
        self._bytes += len(event.line)
        self._judge()
        await self._writer.append([event])

    def leave_out(self) -> None:
        """Count an event that is sampled out."""
        self._sampled_out += 1

    def require_disk(self) -> None:
        """See to it that there is room for what is written elsewhere in the spool.

        Raises:
            snowledger_queue.QueueFullError: the disk is nearly full.
        """
        if self._pressure.reason == "disk":
            self._refuse()

    async def look(self) -> None:
        """Measure the spool. Never raises; what cannot be measured counts as empty, for then the writer decides."""
        events, size = self._events, self._bytes
        complaint = ""
        try:
            self._load = await to_thread.run_sync(self._meter.measure, limiter=self._one_look, abandon_on_cancel=True)
        except OSError as error:
            self._load = _NOTHING
            complaint = f"cannot see how full the queue is, so no limit holds: {error}"
            events, size = self._events, self._bytes
        if complaint != self._complaint:
            log.warning("%s", complaint or "how full the queue is can be seen again")
            self._complaint = complaint
        self._events -= events
        self._bytes -= size
        self._judge()

    async def watch(self) -> None:
        """Look again and again, and log each change of state as an event, until cancelled."""
        while True:
            await anyio.sleep(LOOK_S)
            await self.look()
            if self._pressure.state != self._told.pressure.state:
                await self._tell()

    def _judge(self) -> None:
        before = self._pressure
        self._pressure = self._gauge.judge(self._load.plus(self._events, self._bytes))
        if self._pressure.state == "refusing" != before.state:
            self._refusing_since = time.monotonic()

    def _refuse(self) -> None:
        self._refused += 1
        # As long as it has been so: a burst is over soon, a warehouse that is away stays away.
        lasted = time.monotonic() - self._refusing_since
        raise QueueFullError(self._pressure.problem(), min(MAX_RETRY_S, max(1, math.ceil(lasted))))

    async def _tell(self) -> None:
        before, now = self._told, self.statistics()
        self._told = now
        state, reason, load, _ = now.pressure
        problem = now.pressure.problem() or "there is room again"
        log.warning("backpressure: %s, was %s; %s", state, before.pressure.state, problem)
        event = new_event(
            self._origin,
            activity="cdesk.backpressure",
            customer=OPERATIONAL_CUSTOMER,
            feature_json={
                "state": state,
                "previous_state": before.pressure.state,
                "reason": reason,
                "events": load.events,
                "bytes": load.bytes,
                "oldest_age_s": round(load.oldest_age_s, 3),
                "free_bytes": load.free_bytes,
                "sample_rate": SAMPLE_RATE if state == "sampling" else None,
                "refused": now.refused - before.refused,
                "sampled_out": now.sampled_out - before.sampled_out,
            },
        )
        try:
            await self._writer.append([event])
        except QueueError as error:
            log.warning("that could not be logged as an event: %s", error)


@asynccontextmanager
async def open_journal(spool: Spool, limits: PressureLimits, origin: Origin) -> AsyncIterator[Journal]:
    """Open the queue for writing; ``origin`` is what the journal's own events tell of where they come from.

    Leaving the context commits what waits and seals the segment.
    """
    async with open_writer(spool) as writer, anyio.create_task_group() as tasks:
        journal = Journal(spool, writer, limits, origin)
        await journal.look()
        tasks.start_soon(journal.watch, name="queue pressure")
        yield journal
        tasks.cancel_scope.cancel()
