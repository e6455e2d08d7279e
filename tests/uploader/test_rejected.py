"""What the warehouse rejects: only events that are at fault are set aside, and all others flow."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

import anyio
import orjson
import pytest
from tests.uploader.fake_warehouse import FakeWarehouse
from tests.uploader.uploader_samples import ORIGIN, counted, damaged, drained_stems, sample_event, sample_lines, seal

from snowledger_queue import DeadLetterBox, SealedSegment, SegmentName, Spool, intact_lines, timestamp, with_checksum
from snowledger_uploader import (
    Batch,
    BatchTooLargeError,
    Breaker,
    Contexts,
    Delivery,
    Drain,
    OwnEvents,
    RowsRejectedError,
    WarehouseUnavailableError,
    _rejected,
    _suspect,
)
from snowledger_uploader._drift import DriftAlert


def poisoned(count: int, start: int = 1000) -> list[bytes]:
    return [sample_event(number, poison=True).line for number in range(start, start + count)]


def drain_of(spool: Spool, warehouse: FakeWarehouse, give_up_after_s: float = 5.0) -> Drain:
    delivery = Delivery(warehouse, anyio.Event(), lambda _problem: None, Breaker(max_pause_s=0.001))
    return Drain(spool, warehouse, delivery, give_up_after_s, alert=DriftAlert(OwnEvents(spool), ORIGIN))


async def drained(drain: Drain, until: Callable[[], bool] = lambda: False) -> None:
    while not until() and (segments := await drain.waiting()):
        await drain.drain_batch(segments)


def alerts(warehouse: FakeWarehouse) -> list[dict[str, object]]:
    events = [orjson.loads(line) for line in warehouse.rows.values()]
    return [event["feature_json"] for event in events if event["activity"] == "cdesk.schema_drift_detected"]


def numbers(warehouse: FakeWarehouse) -> list[int]:
    events = [orjson.loads(line)["feature_json"] for line in warehouse.rows.values()]
    return sorted(event["number"] for event in events if "number" in event)


def letters(spool: Spool) -> list[bytes]:
    return [letter.original + b"\n" for letter in DeadLetterBox(spool).letters()]


@pytest.mark.parametrize("count", [1, 3, 40])
async def test_a_batch_that_is_rejected_altogether_is_set_aside_once_another_was_loaded(
    spool: Spool, count: int
) -> None:
    bad = poisoned(count)
    seal(spool, bad)
    warehouse = FakeWarehouse()
    await drained(drain_of(spool, warehouse))
    assert letters(spool) == bad
    assert list(spool.queue.iterdir()) == []
    *held, found = alerts(warehouse)  # which show that the warehouse takes events
    assert held[0]["reason"] == "the warehouse rejects rows of 1 segments, which stay queued: a row is bad"
    assert held[0]["dead_letters"] == {}
    assert len(held) == {1: 2, 3: 2, 40: 3}[count]
    assert found["dead_letters"] == {"rejected": count}


async def test_a_warehouse_that_rejects_everything_costs_no_good_event(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True

    def on_load(_batch: object) -> None:
        if broken:
            raise RowsRejectedError("the schema is broken")

    warehouse = FakeWarehouse(batch_files=1, on_load=on_load)
    drain = drain_of(spool, warehouse)
    for sequence in range(3):
        seal(spool, sample_lines(100, 100 * sequence), sequence)
    await drained(drain)
    assert await drain.waiting() == []
    assert letters(spool) == []
    assert len(spool.sealed_segments()) == 4, "three, and one event that tells of it"
    assert "rejects rows of 4 segments, which stay queued: the schema is broken" in str(drain.problem())
    assert len(warehouse.loads) < 100, "not each of the lines was tried"
    broken = False
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 3600)
    await drained(drain)
    assert numbers(warehouse) == list(range(300))
    assert letters(spool) == []
    assert drain.problem() is None


async def test_what_is_behind_a_segment_full_of_poison_flows(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rejected, "SLICE_S", 0.0)
    warehouse = FakeWarehouse()
    drain = drain_of(spool, warehouse)
    bad = poisoned(30)
    seal(spool, [*bad[:15], *sample_lines(1, 999), *bad[15:]], 1)
    for sequence in range(2, 6):
        seal(spool, sample_lines(2, 2 * sequence), sequence)
    await drained(drain, lambda: len(numbers(warehouse)) >= 8)
    assert numbers(warehouse) == [*range(4, 12)]
    assert len(warehouse.loads) < 12
    assert letters(spool) == [], "it is still being looked for"
    monkeypatch.undo()
    await drained(drain)
    assert letters(spool) == bad
    assert numbers(warehouse) == [*range(4, 12), 999]


async def test_a_segment_that_somebody_links_while_it_is_searched_holds_nobody_up(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = spool.home / "link"

    def linked(spool: Spool, segment: SealedSegment) -> Iterator[tuple[int, bytes]]:
        link.hardlink_to(segment.path)
        return intact_lines(spool, segment)

    warehouse = FakeWarehouse()
    drain = drain_of(spool, warehouse)
    bad = poisoned(2)
    seal(spool, bad, 1)
    seal(spool, sample_lines(2), 2)
    with monkeypatch.context() as patched:
        patched.setattr(_rejected, "intact_lines", linked)
        await drained(drain, link.exists)
    await drained(drain)
    assert numbers(warehouse) == [0, 1]
    assert "cannot be read" in str(drain.problem())
    link.unlink()
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 60)
    await drained(drain)
    assert letters(spool) == bad
    assert drain.problem() is None


async def test_while_one_writer_s_rows_are_rejected_the_others_events_load_in_few_batches(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_rejected, "SLICE_S", 0.0)
    warehouse = FakeWarehouse()
    drain = drain_of(spool, warehouse)
    for second in range(30):
        name = SegmentName(1_763_698_847_123 + second, "badbadbadbad", second, 1)
        (spool.queue / name.sealed(1)).write_bytes(poisoned(1, 1000 + second)[0])
        seal(spool, sample_lines(2, 2 * second), second)
        before = len(warehouse.loads)
        while len(warehouse.loads) < before + 4:  # what it has time for
            await drain.drain_batch(await drain.waiting())
        assert len(numbers(warehouse)) >= 2 * second - 4
    await drained(drain)
    assert sorted(letters(spool)) == sorted(poisoned(30))
    assert numbers(warehouse) == [*range(60)]


@pytest.mark.parametrize("rejections", [1, 5, 12, 25])
async def test_a_warehouse_that_is_mended_in_the_middle_of_a_search_costs_no_good_event(
    spool: Spool, rejections: int
) -> None:
    def on_load(_batch: object) -> None:
        if len(warehouse.loads) <= rejections:
            raise RowsRejectedError("the stage is broken")

    warehouse = FakeWarehouse(on_load=on_load)
    seal(spool, sample_lines(100))
    await drained(drain_of(spool, warehouse))
    assert numbers(warehouse) == list(range(100))
    assert letters(spool) == []


async def test_a_warehouse_that_breaks_again_costs_no_good_event_and_is_not_tried_without_pause(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True

    def on_load(_batch: object) -> None:
        if broken:
            raise RowsRejectedError("the stage is broken")

    clock = 0.0
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + clock)
    warehouse = FakeWarehouse(on_load=on_load)
    drain = drain_of(spool, warehouse)
    for sequence in range(3):
        seal(spool, sample_lines(20, 100 * sequence), sequence)
    await drained(drain)
    for sequence in range(3, 6):
        broken = False
        clock += 60
        seal(spool, sample_lines(1, 100 * sequence), sequence)
        await drained(drain, lambda: sequence * 100 in numbers(warehouse))  # noqa: B023 - called at once
        broken = True
        before = len(warehouse.loads)
        await drained(drain)
        assert len(warehouse.loads) - before < 4 * _rejected.PATIENCE * 2**sequence
        assert await drain.waiting() == []
        for pause_s in (40, 80, 150):
            clock += pause_s
            await drained(drain)
    assert letters(spool) == []
    broken = False
    clock += 3600
    await drained(drain)
    assert len(numbers(warehouse)) == 63
    assert letters(spool) == []


async def test_an_outage_in_the_middle_of_a_search_loses_none_of_its_progress(spool: Spool) -> None:
    def on_load(_batch: object) -> None:
        if len(warehouse.loads) % 5 == 0:
            raise WarehouseUnavailableError("away")

    warehouse = FakeWarehouse(on_load=on_load)
    drain = drain_of(spool, warehouse, give_up_after_s=0.0)
    bad = poisoned(20)
    seal(spool, [*sample_lines(5), *bad])
    while segments := await drain.waiting():
        with suppress(WarehouseUnavailableError):
            await drain.drain_batch(segments)
    assert letters(spool) == bad
    assert numbers(warehouse) == list(range(5))
    assert len(warehouse.loads) < 5 / 4 * 5 * len(bad)


async def test_a_segment_that_is_too_large_for_the_warehouse_is_loaded_in_parts(spool: Spool) -> None:
    def on_load(batch: Batch) -> None:
        if batch.events > 3 or any(b'"huge":' in file.read_bytes() for file in batch.files):
            raise BatchTooLargeError("out of memory")

    warehouse = FakeWarehouse(on_load=on_load)
    drain = drain_of(spool, warehouse)
    seal(spool, sample_lines(20), 1)
    seal(spool, [*sample_lines(20, 20), sample_event(99, huge=1).line], 2)
    seal(spool, sample_lines(2, 40), 3)
    await drained(drain)
    assert numbers(warehouse) == list(range(42))
    assert letters(spool) == [], "the row that nothing can load is not at fault"
    assert len(spool.sealed_segments()) == 1
    assert "out of memory" in str(drain.problem())
    assert len(alerts(warehouse)) == _suspect.ALERTS


async def test_a_segment_of_which_some_rows_are_loaded_counts_none_twice(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_rejected, "SLICE_S", 0.0)
    now = timestamp(datetime.now(UTC))
    warehouse = FakeWarehouse()
    stop = anyio.Event()
    contexts = Contexts(spool, warehouse, ORIGIN, stop, None)
    drain = Drain(spool, warehouse, Delivery(warehouse, stop, lambda _problem: None), 5.0, contexts)
    segment = seal(spool, [sample_event(number, now, poison=number > 3).line for number in range(8)])
    while not numbers(warehouse):
        await drain.drain_batch(await drain.waiting())
    assert segment.path.exists()
    assert counted(spool) == {"cdesk.user_asked": len(numbers(warehouse))}
    assert drained_stems(spool) == {segment.name.stem}, "what is queued of it is not counted"
    await contexts.refresh("interval")
    assert drained_stems(spool) == {segment.name.stem}
    await contexts.close()


async def test_events_of_a_later_version_are_set_aside_with_an_alert_and_unknown_keys_are_loaded(spool: Spool) -> None:
    plain = sample_event(1).line
    body = plain[: plain.rindex(b',"_crc"')]
    later = with_checksum(body.replace(b'"_schema_version":1', b'"_schema_version":2') + b',"_new":{"a":1}}')
    unknown = with_checksum(body.replace(b"%032x" % 1, b"%032x" % 2) + b',"_new":{"_schema_version":1}}')
    seal(spool, [later, unknown, damaged(sample_event(3).line)])
    warehouse = FakeWarehouse()
    await drained(drain_of(spool, warehouse))
    assert unknown.rstrip() in warehouse.rows.values()
    found = list(DeadLetterBox(spool).letters())
    assert [letter.error_class for letter in found] == ["incompatible", "damaged"]
    assert found[0].reason == "an event of version 2; this snowledger knows 1"
    [alert] = alerts(warehouse)
    assert alert["dead_letters"] == {"incompatible": 1}
