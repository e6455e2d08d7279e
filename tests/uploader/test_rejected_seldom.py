"""However seldom anything is loaded, a rejected row is found; and its own alerts do not go on for ever."""

import time
from collections.abc import Callable
from unittest import mock

import anyio
import pytest
from tests.uploader.fake_warehouse import FakeWarehouse
from tests.uploader.uploader_samples import ORIGIN, sample_event, seal

from snowledger_queue import DeadLetterBox, SegmentName, Spool
from snowledger_uploader import Breaker, Delivery, Drain, OwnEvents, RowsRejectedError
from snowledger_uploader._drift import DriftAlert

STEP_S = 5.0
TOOK_S = 7_200.0
WRITER = "ffffffffffff"


class Hours:
    """A queue and its drain, in a time that passes as fast as nothing happens."""

    def __init__(self, spool: Spool, *, alert: bool, on_load: Callable[[float], None] = lambda _now: None) -> None:
        self.spool = spool
        self.passed_s = 0.0
        self.warehouse = FakeWarehouse(on_load=lambda _batch: on_load(self.passed_s))
        delivery = Delivery(self.warehouse, anyio.Event(), lambda _problem: None, Breaker(max_pause_s=0.0))
        own = DriftAlert(OwnEvents(spool), ORIGIN) if alert else None
        self.drain = Drain(spool, self.warehouse, delivery, alert=own)

    async def run(self, batch_age_s: float, every_s: float, until: Callable[[], bool]) -> None:
        """Load what is `batch_age_s` old, and log an event each `every_s`."""
        monotonic, wall = time.monotonic, time.time
        logged = 0
        with (
            mock.patch.object(time, "monotonic", side_effect=lambda: monotonic() + self.passed_s),
            mock.patch.object(time, "time", side_effect=lambda: wall() + self.passed_s),
            mock.patch.object(time, "time_ns", side_effect=lambda: int((wall() + self.passed_s) * 1e9)),
        ):
            while not until() and self.passed_s < TOOK_S:
                if self.passed_s >= logged * every_s:
                    logged += 1
                    name = SegmentName(time.time_ns() // 1_000_000, WRITER, logged, None)
                    (self.spool.queue / name.sealed(1)).write_bytes(sample_event(100 + logged).line)
                waiting = await self.drain.waiting()
                oldest_s = min((segment.name.opened_ms / 1000 for segment in waiting), default=time.time())
                if waiting and time.time() - oldest_s >= batch_age_s:
                    await self.drain.drain_batch(waiting)
                else:
                    self.passed_s += STEP_S

    def letters(self) -> list[bytes]:
        return [letter.original for letter in DeadLetterBox(self.spool).letters()]


NEVER = float("inf")


@pytest.mark.parametrize(
    ("batch_age_s", "every_s", "alert"),
    [
        *((0, NEVER, True), (60, NEVER, True), (300, NEVER, True), (300, 20, True), (600, 30, True)),
        *((0, 300, False), (0, 600, False)),
    ],
)
async def test_the_search_ends(spool: Spool, batch_age_s: float, every_s: float, alert: bool) -> None:
    poison = sample_event(2, poison=True).line
    seal(spool, [poison] if not alert else [sample_event(1).line, poison, sample_event(3).line])
    hours = Hours(spool, alert=alert)
    await hours.run(batch_age_s, every_s, until=lambda: bool(hours.letters()))
    assert hours.letters() == [poison.rstrip()]
    assert sum(b"schema_drift" in line for line in hours.warehouse.rows.values()) <= 8
    assert len(hours.warehouse.loads) < 150


@pytest.mark.parametrize("batch_age_s", [0, 300])
async def test_a_warehouse_that_is_broken_for_an_hour_costs_no_event(spool: Spool, batch_age_s: float) -> None:
    def broken(now: float) -> None:
        if 600 < now < 4_200:
            raise RowsRejectedError("somebody changed a column")

    hours = Hours(spool, alert=True, on_load=broken)
    await hours.run(batch_age_s, every_s=50, until=lambda: hours.passed_s > 6_000)
    assert hours.letters() == []
    left = sum(segment.name.writer == WRITER for segment in spool.sealed_segments())
    assert left <= batch_age_s / 50 + 1, "what the hour left is loaded"
