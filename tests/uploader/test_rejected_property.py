"""Wherever the rejected rows are: they alone are dead letters, all others load once, and it takes few loads."""

import math
import tempfile
import time
from pathlib import Path
from unittest import mock

import anyio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.thorough import examples
from tests.uploader.fake_warehouse import FakeWarehouse
from tests.uploader.uploader_samples import ORIGIN, sample_event, seal

from snowledger_queue import DeadLetterBox, Spool, open_spool
from snowledger_uploader import Breaker, Delivery, Drain, OwnEvents, RowsRejectedError, WarehouseUnavailableError
from snowledger_uploader._drift import DriftAlert

rows = st.sampled_from(["good"] * 5 + ["bad"])
BAD = ["bad"] * 20
IDLE_S = 1000  # longer than any rest
spools = st.lists(st.lists(rows, min_size=1, max_size=30) | st.just(BAD), max_size=12)


def fill(spool: Spool, segments: list[list[str]]) -> tuple[set[bytes], set[bytes]]:
    """The good and the rejected lines, without newline."""
    good: set[bytes] = set()
    bad: set[bytes] = set()
    for sequence, kinds in enumerate(segments):
        lines = []
        for place, kind in enumerate(kinds):
            number = 100 * sequence + place
            line = sample_event(number).line if kind == "good" else sample_event(number, poison=True).line
            (good if kind == "good" else bad).add(line.rstrip())
            lines.append(line)
        seal(spool, lines, sequence)
    return good, bad


async def drain_all(spool: Spool, warehouse: FakeWarehouse) -> None:
    delivery = Delivery(warehouse, anyio.Event(), lambda _problem: None, Breaker(max_pause_s=0.0))
    drain = Drain(spool, warehouse, delivery, alert=DriftAlert(OwnEvents(spool), ORIGIN))
    now = time.monotonic
    waited_s = 0.0

    def later() -> float:
        return now() + waited_s

    with mock.patch("time.monotonic", later):
        while list(spool.queue.iterdir()):
            if waiting := await drain.waiting():
                await drain.drain_batch(waiting)
            else:
                assert drain.problem() is not None
                waited_s += IDLE_S
                assert waited_s < 100 * IDLE_S, "nothing else is logged, and the search does not end"


@settings(max_examples=examples(8))
@given(segments=spools, batch_files=st.sampled_from([1, 3, 1000]), breaks=st.sampled_from([0, 7, 23]))
@example(segments=[BAD, ["good"] * 5, BAD, BAD, ["good"] * 5, BAD], batch_files=3, breaks=23)
@example(
    segments=[["good"] * 6 + ["bad"], ["good"], ["good"] * 4, BAD, ["good"] * 7, BAD, BAD], batch_files=1, breaks=7
)
def test_the_rejected_rows_and_they_alone_are_dead_letters_after_few_loads(
    segments: list[list[str]], batch_files: int, breaks: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool = open_spool(Path(folder) / "spool")
        good, bad = fill(spool, segments)

        def on_load(_batch: object) -> None:
            if breaks and len(warehouse.loads) % breaks == 0:
                raise WarehouseUnavailableError("away")
            if len(warehouse.loads) < breaks:
                raise RowsRejectedError("the stage is broken")

        warehouse = FakeWarehouse(batch_files=batch_files, on_load=on_load)
        anyio.run(drain_all, spool, warehouse)
        own = {line for line in warehouse.rows.values() if b'"customer":"snowledger"' in line}
        assert set(warehouse.rows.values()) - own == good
        assert warehouse.inserts == len(good) + len(own)
        letters = [letter.original for letter in DeadLetterBox(spool).letters()]
        assert sorted(letters) == sorted(bad)
        assert list(spool.queue.iterdir()) == []
        assert list(spool.work.iterdir()) == []
        depth = math.log2(30) + math.log2(len(segments) + 2)
        allowed = 4 * len(segments) + 4 * len(bad) * depth + 2 * len(own) + 3 * breaks + 20
        assert len(warehouse.loads) <= allowed
