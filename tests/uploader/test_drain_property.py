"""Whatever is in the segments, every line is delivered or dead-lettered, and none is both or twice."""

import tempfile
from collections import Counter
from pathlib import Path
from unittest import mock

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.thorough import examples
from tests.uploader.fake_warehouse import FakeWarehouse
from tests.uploader.uploader_samples import ORIGIN, damaged, sample_event, seal

from snowledger_queue import DeadLetterBox, open_spool
from snowledger_uploader import Delivery, Drain, OwnEvents
from snowledger_uploader._drift import DriftAlert

# What a line is; a number names the event that is logged again.
lines = st.one_of(st.just("good"), st.integers(0, 9), st.sampled_from(["damaged", "rejected", "garbage", "empty"]))
spools = st.lists(st.lists(lines, max_size=8), max_size=7)


@settings(max_examples=examples(25))
@given(
    segments=spools,
    batch_bytes=st.sampled_from([1, 1500, 10**6]),
    batch_files=st.integers(1, 4),
    unavailable=st.integers(0, 2),
    lost_replies=st.integers(0, 2),
)
def test_delivered_and_dead_lettered_together_are_what_was_submitted(
    segments: list[list[str | int]], batch_bytes: int, batch_files: int, unavailable: int, lost_replies: int
) -> None:
    good: set[bytes] = set()
    bad: Counter[bytes] = Counter()
    number = 100
    with tempfile.TemporaryDirectory() as folder:
        spool = open_spool(Path(folder) / "spool")
        for sequence, kinds in enumerate(segments):
            content = []
            for kind in kinds:
                number += 1
                match kind:
                    case "damaged":
                        line = damaged(sample_event(number).line)
                    case "rejected":
                        line = sample_event(number, poison=True).line
                    case "garbage":
                        line = b"\xff{]%d\n" % number
                    case "empty":
                        line = b"\n"
                    case _:
                        line = sample_event(kind if isinstance(kind, int) else number).line
                        good.add(line.rstrip(b"\n"))
                content.append(line)
                if isinstance(kind, str) and kind != "good":
                    bad[line.rstrip(b"\n")] += 1
            seal(spool, content, sequence)
        warehouse = FakeWarehouse(
            batch_bytes=batch_bytes, batch_files=batch_files, unavailable=unavailable, lost_replies=lost_replies
        )

        async def drain_all() -> None:
            alert = DriftAlert(OwnEvents(spool), ORIGIN)
            delivery = Delivery(warehouse, anyio.Event(), lambda _problem: None)
            drain = Drain(spool, warehouse, delivery, alert=alert)
            while waiting := await drain.waiting():
                await drain.drain_batch(waiting)

        with mock.patch("snowledger_uploader._breaker.FIRST_PAUSE_S", 0.0):
            anyio.run(drain_all)
        alerts = {line for line in warehouse.rows.values() if b"cdesk.schema_drift_detected" in line}
        assert set(warehouse.rows.values()) - alerts == good
        assert warehouse.inserts == len(good) + len(alerts)
        assert Counter(letter.original for letter in DeadLetterBox(spool).letters()) == bad
        assert list(spool.queue.iterdir()) == []
        assert list(spool.work.iterdir()) == []
