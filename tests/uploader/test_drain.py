"""From sealed segments to the warehouse: what is loaded, what is set aside, what stays."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from tests.uploader.fake_warehouse import POISON, FakeWarehouse
from tests.uploader.uploader_samples import (
    ORIGIN,
    damaged,
    loaded_lines,
    raw_line,
    sample_event,
    sample_lines,
    seal,
)

from snowledger_queue import DeadLetter, DeadLetterBox, Spool
from snowledger_uploader import (
    Batch,
    BatchTooLargeError,
    Breaker,
    Delivery,
    Drain,
    DrainedBatch,
    DuckDBWarehouse,
    OwnEvents,
    RowsRejectedError,
    UploaderError,
    UploadStoppedError,
    Warehouse,
    WarehouseRefusedError,
    WarehouseUnavailableError,
)
from snowledger_uploader._drift import DriftAlert


def delivery(
    warehouse: Warehouse, stop: anyio.Event | None = None, on_problem: Callable[[UploaderError], None] = lambda _: None
) -> Delivery:
    """With short pauses."""
    return Delivery(warehouse, stop or anyio.Event(), on_problem, Breaker(max_pause_s=0.001))


async def drain(spool: Spool, warehouse: Warehouse, give_up_after_s: float | None = 5.0) -> list[DrainedBatch]:
    """Drain until nothing waits."""
    alert = DriftAlert(OwnEvents(spool), ORIGIN)
    drain = Drain(spool, warehouse, delivery(warehouse), give_up_after_s, alert=alert)
    drained = []
    try:
        while segments := await drain.waiting():
            drained.append(await drain.drain_batch(segments))
    finally:
        await warehouse.close()
    return drained


def queue_files(spool: Spool) -> list[str]:
    return sorted(path.name for path in spool.queue.iterdir())


def letters(spool: Spool) -> list[DeadLetter]:
    return list(DeadLetterBox(spool).letters())


def poisoned(number: int) -> bytes:
    return sample_event(number, poison=True).line


async def test_many_small_segments_become_one_batch_and_leave_the_disk(spool: Spool) -> None:
    for number in range(20):
        seal(spool, sample_lines(3, number * 3), number)
    warehouse = FakeWarehouse()
    [batch] = await drain(spool, warehouse)
    assert (batch.events, batch.inserted, batch.dead_letters) == (60, 60, 0)
    assert len(warehouse.kept) == 1
    assert queue_files(spool) == []
    assert list(spool.work.iterdir()) == []


@pytest.mark.parametrize(("limits", "batches"), [((1000, 4), 3), ((2 * 1000, 1000), 6), ((1, 1000), 10)])
async def test_a_batch_keeps_the_warehouse_s_limits_and_has_at_least_one_segment(
    spool: Spool, limits: tuple[int, int], batches: int
) -> None:
    for number in range(10):
        line = sample_event(number, filler="x" * 600).line
        seal(spool, [line], number)
    size = len(line)
    warehouse = FakeWarehouse(batch_bytes=limits[0] if limits[1] != 4 else 10**6, batch_files=limits[1])
    assert 600 < size < 1000
    assert len(await drain(spool, warehouse)) == batches
    assert all(batch.size <= max(warehouse.batch_bytes, size) for batch in warehouse.loads)
    assert len(warehouse.rows) == 10


async def test_the_same_content_always_makes_the_same_batch_id(spool: Spool) -> None:
    ids = set()
    for sequence in range(3):
        seal(spool, sample_lines(2), sequence)
        [batch] = await drain(spool, FakeWarehouse())
        ids.add(batch.batch_id)
    assert len(ids) == 1


async def test_a_batch_that_is_formed_while_another_loads_loses_and_repeats_nothing(spool: Spool) -> None:
    good = sample_lines(4)
    for sequence in range(3):  # three batches whose copies without the damaged line are the same
        seal(spool, [*good, damaged(sample_event(9 + sequence).line)], sequence)
    warehouse = FakeWarehouse(batch_files=1)
    batches = await drain(spool, warehouse)
    assert [(batch.events, batch.inserted, batch.dead_letters) for batch in batches] == [
        (4, 4, 1),
        (4, 0, 1),
        (4, 0, 1),
    ]
    assert len(warehouse.loads) == 3
    assert len(letters(spool)) == 3
    assert not queue_files(spool)
    assert not list(spool.work.iterdir())


async def test_a_batch_that_is_formed_ahead_of_one_that_is_halved_is_formed_anew(spool: Spool) -> None:
    for sequence in range(6):
        seal(spool, [*sample_lines(2, 2 * sequence), damaged(sample_event(100 + sequence).line)], sequence)

    def on_load(batch: Batch) -> None:
        if len(batch.files) > 1:
            raise BatchTooLargeError("too large")

    warehouse = FakeWarehouse(batch_files=3, on_load=on_load)
    batches = await drain(spool, warehouse)
    assert sum(batch.inserted for batch in batches) == len(warehouse.rows) == 12
    assert len(letters(spool)) == 6
    assert not queue_files(spool)
    assert not list(spool.work.iterdir())


async def test_while_the_warehouse_is_away_no_batch_is_formed_ahead_again_and_again(spool: Spool) -> None:
    for sequence in range(2):  # of a damaged line a batch has a copy without it, which tells that it was formed
        seal(spool, [*sample_lines(2, 2 * sequence), damaged(sample_event(100 + sequence).line)], sequence)
    away = [True]

    def on_load(_batch: Batch) -> None:
        if away:
            raise WarehouseUnavailableError("away")

    warehouse = FakeWarehouse(batch_files=1, on_load=on_load)
    drain = Drain(spool, warehouse, delivery(warehouse), 0.0)
    for _ in range(2):
        with pytest.raises(WarehouseUnavailableError):
            await drain.drain_batch(await drain.waiting())
    assert not list(spool.work.iterdir())
    away.clear()
    with anyio.fail_after(20):
        while segments := await drain.waiting():
            with suppress(WarehouseUnavailableError):  # the breaker is open for some milliseconds yet
                await drain.drain_batch(segments)
            await anyio.sleep(0.001)
    assert len(warehouse.rows) == 4
    assert len(letters(spool)) == 2
    assert not list(spool.work.iterdir())


async def test_a_damaged_line_is_set_aside_with_its_place_and_reason_and_no_other_is_lost(spool: Spool) -> None:
    good = sample_lines(4)
    bad = damaged(sample_event(9).line)
    segment = seal(spool, [*good[:2], bad, *good[2:]])
    warehouse = FakeWarehouse()
    [batch] = await drain(spool, warehouse)
    assert (batch.events, batch.inserted, batch.dead_letters) == (4, 4, 1)
    assert sorted(warehouse.rows.values()) == [line.rstrip(b"\n") for line in good]
    [letter] = letters(spool)
    assert letter.error_class == "damaged"
    assert letter.segment == segment.path.name
    assert letter.offset == len(good[0] + good[1])
    assert "checksum" in letter.reason
    assert letter.original == bad.rstrip(b"\n")
    assert queue_files(spool) == []
    assert list(spool.work.iterdir()) == []


async def test_a_segment_that_lost_its_end_gives_up_only_the_cut_line(spool: Spool) -> None:
    lines = sample_lines(4)
    segment = seal(spool, lines)
    os.truncate(segment.path, len(b"".join(lines[:3])) + 50)
    warehouse = FakeWarehouse()
    await drain(spool, warehouse)
    assert sorted(warehouse.rows.values()) == [line.rstrip(b"\n") for line in lines[:3]]
    [letter] = letters(spool)
    assert letter.original == lines[3][:50]
    assert "no end" in letter.reason


async def test_a_segment_of_damage_only_needs_no_warehouse(spool: Spool) -> None:
    seal(spool, [damaged(line) for line in sample_lines(3)] + [b"\n", b"\xff\x00\n"])
    warehouse = FakeWarehouse()
    [batch] = await drain(spool, warehouse)
    assert (batch.events, batch.dead_letters) == (0, 5)
    assert warehouse.loads == []
    assert queue_files(spool) == []


async def test_rows_that_the_warehouse_rejects_are_found_and_the_rest_loads(spool: Spool) -> None:
    lines = sample_lines(40)
    for number in (0, 17, 18, 39):
        lines[number] = poisoned(number)
    segments = [seal(spool, lines[:20], 1), seal(spool, lines[20:], 2)]
    warehouse = FakeWarehouse()
    batches = await drain(spool, warehouse)
    assert sum(batch.events for batch in batches) == sum(batch.inserted for batch in batches) == 36
    assert sum(batch.dead_letters for batch in batches) == 4
    loaded = sorted(line for line in warehouse.rows.values() if b'"acme"' in line)
    assert loaded == [line.rstrip(b"\n") for line in lines if POISON not in line]
    found = {(letter.segment, letter.offset): letter for letter in letters(spool)}
    assert len(found) == 4
    place = found[segments[0].path.name, len(b"".join(lines[:17]))]
    assert (place.error_class, place.reason, place.original) == ("rejected", "a row is bad", lines[17].rstrip(b"\n"))
    assert queue_files(spool) == []
    assert list(spool.work.iterdir()) == []


async def test_duckdb_s_rejected_rows_are_found_and_the_rest_loads(spool: Spool, tmp_path: Path) -> None:
    lines = sample_lines(30)
    lines[5] = raw_line(5, b'{"a":"\\ud800"}')
    lines[29] = raw_line(29, b'{"a":}')
    seal(spool, lines, 1)
    seal(spool, sample_lines(10, 30), 2)
    path = tmp_path / "warehouse.duckdb"
    batches = await drain(spool, DuckDBWarehouse(path, spool.work, ORIGIN))
    assert sum(batch.inserted for batch in batches) == 38
    assert sum(batch.dead_letters for batch in batches) == 2
    assert len(loaded_lines(path)) == 38
    assert {letter.original + b"\n" for letter in letters(spool)} == {lines[5], lines[29]}


async def test_an_error_that_is_not_a_row_s_sets_no_row_aside(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(spool, sample_lines(3))
    # DuckDB raises the same class for a malformed row and for an option that it does not know.
    monkeypatch.setattr("snowledger_uploader._duckdb._file.MEMORY_LIMIT", "a lot")
    path = tmp_path / "warehouse.duckdb"
    with pytest.raises(UploaderError) as caught:
        await drain(spool, DuckDBWarehouse(path, spool.work, ORIGIN), give_up_after_s=0.01)
    assert not isinstance(caught.value, RowsRejectedError)
    assert letters(spool) == []
    assert len(queue_files(spool)) == 1


@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "FIFO", "hard link", "folder"])
@pytest.mark.parametrize("position", ["first", "last"])
async def test_what_is_no_plain_file_is_left_alone_and_the_others_drain(
    spool: Spool, tmp_path: Path, kind: str, position: str
) -> None:
    seal(spool, sample_lines(3), 5)
    seal(spool, sample_lines(3, 3), 6)
    planted = seal(spool, [], 1 if position == "first" else 9).path
    planted.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(sample_event(99).line)
    match kind:
        case "symlink":
            planted.symlink_to(elsewhere)
        case "dangling symlink":
            planted.symlink_to(tmp_path / "nowhere")
        case "FIFO":
            os.mkfifo(planted)
        case "hard link":
            planted.hardlink_to(elsewhere)
        case _:
            planted.mkdir()
    warehouse = FakeWarehouse()
    await drain(spool, warehouse)
    assert len(warehouse.rows) == 6
    assert queue_files(spool) == [planted.name]
    assert letters(spool) == []


async def test_a_segment_that_vanishes_after_the_listing_holds_nobody_up(spool: Spool) -> None:
    first, gone, last = (seal(spool, sample_lines(3, 3 * number), number) for number in range(3))
    gone.path.unlink()
    warehouse = FakeWarehouse()
    drain = Drain(spool, warehouse, delivery(warehouse))
    await drain.drain_batch([first, gone, last])
    assert len(warehouse.rows) == 6
    assert queue_files(spool) == []


async def test_after_a_lost_reply_the_receipt_is_found_and_nothing_is_loaded_twice(spool: Spool) -> None:
    seal(spool, sample_lines(5))
    warehouse = FakeWarehouse(lost_replies=1)
    [batch] = await drain(spool, warehouse)
    assert batch.inserted == 5
    assert len(warehouse.loads) == 1
    assert warehouse.inserts == 5


async def test_a_warehouse_that_is_down_is_tried_again_and_named_meanwhile(spool: Spool) -> None:
    seal(spool, sample_lines(5))
    warehouse = FakeWarehouse(unavailable=3)
    heard: list[UploaderError] = []
    drain = Drain(spool, warehouse, delivery(warehouse, on_problem=heard.append))
    await drain.drain_batch(await drain.waiting())
    assert [str(error) for error in heard] == ["the warehouse is down"] * 3
    assert warehouse.inserts == 5


async def test_a_warehouse_may_be_down_for_days(spool: Spool) -> None:
    seal(spool, sample_lines(1))
    warehouse = FakeWarehouse(unavailable=1100)
    await drain(spool, warehouse, give_up_after_s=None)
    assert warehouse.inserts == 1


async def test_without_a_receipt_no_segment_is_deleted(spool: Spool) -> None:
    segment = seal(spool, sample_lines(5))
    with pytest.raises(UploaderError, match="no receipt"):
        await drain(spool, FakeWarehouse(forgets_receipts=True, lost_replies=0), give_up_after_s=0.0)
    assert queue_files(spool) == [segment.path.name]


async def test_what_only_an_operator_can_mend_is_reported_at_once_when_there_is_a_limit(
    spool: Spool, tmp_path: Path
) -> None:
    seal(spool, sample_lines(1))
    path = tmp_path / "notes.txt"
    path.write_text("no database\n" * 100)
    with anyio.fail_after(5), pytest.raises(WarehouseRefusedError):
        await drain(spool, DuckDBWarehouse(path, spool.work, ORIGIN), give_up_after_s=30)
    assert len(queue_files(spool)) == 1


async def test_told_to_stop_while_waiting_the_segments_stay(spool: Spool) -> None:
    seal(spool, sample_lines(5))
    stop = anyio.Event()
    warehouse = FakeWarehouse(unavailable=10**9, on_load=lambda _batch: stop.set())
    drain = Drain(spool, warehouse, delivery(warehouse, stop))
    with pytest.raises(UploadStoppedError):
        await drain.drain_batch(await drain.waiting())
    assert len(queue_files(spool)) == 1


async def test_the_time_limit_names_the_last_reason(spool: Spool) -> None:
    seal(spool, sample_lines(5))
    with pytest.raises(WarehouseUnavailableError, match="is down"):
        await drain(spool, FakeWarehouse(unavailable=10**9), give_up_after_s=0.05)
    assert len(queue_files(spool)) == 1


async def test_segments_stay_until_their_dead_letters_are_kept(spool: Spool) -> None:
    segment = seal(spool, [*sample_lines(3), damaged(sample_event(9).line)])
    obstacle = spool.dead_letters / segment.path.name
    obstacle.mkdir()
    warehouse = FakeWarehouse()
    with pytest.raises(OSError, match="directory"):
        await drain(spool, warehouse)
    assert queue_files(spool) == [segment.path.name]
    obstacle.rmdir()
    await drain(spool, warehouse)
    assert queue_files(spool) == []
    assert warehouse.inserts == 3
    assert len(letters(spool)) == 1


async def test_lines_that_vanished_from_the_end_of_a_segment_are_a_dead_letter(spool: Spool) -> None:
    segment = seal(spool, sample_lines(5))
    segment.path.write_bytes(b"".join(sample_lines(3)))
    [batch] = await drain(spool, FakeWarehouse())
    assert (batch.events, batch.dead_letters) == (3, 1)
    [letter] = letters(spool)
    assert (letter.error_class, letter.original) == ("damaged", b"")
    assert letter.reason.startswith("2 lines less")


async def test_a_segment_that_cannot_be_recovered_is_named_once_and_holds_nothing_up(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    planted = spool.queue / "1763698847123-0123456789ab-00000009.open"
    os.mkfifo(planted)
    seal(spool, sample_lines(2))
    warehouse = FakeWarehouse()
    subject = Drain(spool, warehouse, delivery(warehouse))
    for _ in range(3):
        waiting = await subject.waiting()
    assert len(waiting) == 1
    assert not subject.has_writers()
    assert caplog.text.count("cannot recover") == 1
    assert planted.exists()
