"""One load into a real DuckDB file: in whole or not at all, and every event once."""

import threading
import time
from pathlib import Path

import anyio
import pytest
from tests.uploader.uploader_samples import (
    PATIENCE_S,
    batch_of,
    loaded_lines,
    opened,
    raw_line,
    receipts,
    rows,
    sample_event,
    sample_lines,
)

from snowledger_queue import with_checksum
from snowledger_uploader import (
    Batch,
    DuckDBWarehouse,
    RowsRejectedError,
    WarehouseUnavailableError,
    receipt_id,
)

LARGE = 150_000


def large_batch(folder: Path) -> Batch:
    return batch_of(folder, [raw_line(number, b'{"n":1}') for number in range(LARGE)])


async def test_events_ids_and_receipt_of_a_batch_are_there_together(path: Path, tmp_path: Path) -> None:
    lines = sample_lines(5)
    batch = batch_of(tmp_path, lines[:3], lines[3:])
    async with opened(path) as warehouse:
        receipt = await warehouse.load(batch)
        assert await warehouse.find_receipt(batch.batch_id) == receipt
    assert (receipt.batch_id, receipt.events, receipt.inserted) == (batch.batch_id, 5, 5)
    events = rows(path, "SELECT activity_id, _batch_id FROM activities.raw_events ORDER BY ALL")
    known = rows(
        path, "SELECT replace(activity_id::VARCHAR, '-', ''), _batch_id FROM activities._ingest_ids ORDER BY 1"
    )
    assert events == known
    assert len(events) == 6
    assert (receipt_id(batch.batch_id), batch.batch_id) in events


async def test_the_payload_is_the_line_byte_for_byte(path: Path, tmp_path: Path) -> None:
    odd = {"quotes": "\"\\'", "newlines": "a\r\nb\u2028c\x85", "emoji": "\U0001f9ca", "n": 0.1, "e": 1e-7, "": None}
    lines = [
        sample_event(1, odd=odd).line,
        raw_line(2, b'{ "spaces" : [ 1.0 , 1e2,-0.0 ] ,"\\u00e9":"\\/\\u0000" }'),
        raw_line(3, b'{"twice":1,"twice":2,"big":123456789012345678901234567890}'),
    ]
    async with opened(path) as warehouse:
        await warehouse.load(batch_of(tmp_path, lines))
    assert loaded_lines(path) == lines
    assert len(rows(path, "SELECT * FROM activities.events")) == 4


async def test_of_several_with_one_id_the_earliest_is_kept(path: Path, tmp_path: Path) -> None:
    times = [f"2026-11-21T04:20:47.{micros:06d}Z" for micros in (5, 3, 4, 3)]
    lines = [sample_event(7, ts, order=order).line for order, ts in enumerate(times)]
    async with opened(path) as warehouse:
        receipt = await warehouse.load(batch_of(tmp_path, lines[:2], lines[2:]))
    assert receipt.inserted == 1
    [kept] = loaded_lines(path)
    assert kept in (lines[1], lines[3])


async def test_an_event_of_an_earlier_batch_is_not_inserted_again(path: Path, tmp_path: Path) -> None:
    async with opened(path) as warehouse:
        await warehouse.load(batch_of(tmp_path, sample_lines(3)))
        receipt = await warehouse.load(batch_of(tmp_path, sample_lines(5)))
    assert receipt.inserted == 2
    assert loaded_lines(path) == sample_lines(5)
    [features] = rows(
        path, "SELECT feature_json FROM activities.events WHERE activity_id = ?", receipt_id(receipt.batch_id)
    )[0]
    assert '"duplicates":3' in features


async def test_a_replayed_batch_adds_no_row_at_all(path: Path, tmp_path: Path) -> None:
    batch = batch_of(tmp_path, sample_lines(4))
    async with opened(path) as warehouse:
        await warehouse.load(batch)
    before = rows(path, "SELECT * FROM activities.raw_events ORDER BY ALL")
    async with opened(path) as warehouse:
        receipt = await warehouse.load(batch)
    assert receipt.inserted == 0
    assert rows(path, "SELECT * FROM activities.raw_events ORDER BY ALL") == before
    assert rows(path, "SELECT count(*) FROM activities._ingest_ids") == [(5,)]


async def test_a_batch_of_duplicates_only_leaves_no_receipt(path: Path, tmp_path: Path) -> None:
    async with opened(path) as warehouse:
        await warehouse.load(batch_of(tmp_path, sample_lines(4)))
        again = batch_of(tmp_path, sample_lines(2))
        assert (await warehouse.load(again)).inserted == 0
        assert await warehouse.find_receipt(again.batch_id) is None
    assert receipts(path) == 1


async def test_a_receipt_that_was_never_written_is_not_found(path: Path, tmp_path: Path) -> None:
    async with opened(path) as warehouse:
        assert await warehouse.find_receipt(batch_of(tmp_path, sample_lines(1)).batch_id) is None


@pytest.mark.parametrize(
    "poison",
    [
        raw_line(9, b'{"a":}'),
        raw_line(9, b'{"a":"\\ud800"}'),
        raw_line(9, b'{"a":"\xff"}'),
        raw_line(9, b'{}} {"b":1'),
        with_checksum(b'{"activity_id":"%s","ts":"x"}' % (b"z" * 32)),
    ],
    ids=["malformed", "lone surrogate", "bad UTF-8", "two objects", "id that is none"],
)
async def test_a_bad_row_is_told_from_a_bad_warehouse_and_nothing_is_loaded(
    path: Path, tmp_path: Path, poison: bytes
) -> None:
    async with opened(path) as warehouse:
        with pytest.raises(RowsRejectedError):
            await warehouse.load(batch_of(tmp_path, [*sample_lines(3), poison]))
        await warehouse.open()
        assert (await warehouse.load(batch_of(tmp_path, sample_lines(3)))).inserted == 3
    assert loaded_lines(path) == sample_lines(3)


async def test_fewer_rows_than_were_verified_are_never_taken_for_the_batch(path: Path, tmp_path: Path) -> None:
    batch = batch_of(tmp_path, sample_lines(3))
    batch.files[0].write_bytes(b"".join(sample_lines(2)))
    async with opened(path) as warehouse:
        with pytest.raises(WarehouseUnavailableError, match="2 of 3"):
            await warehouse.load(batch)
    assert loaded_lines(path) == []


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.15, 0.3])
async def test_a_cancelled_load_has_no_effect_or_a_whole_one(path: Path, tmp_path: Path, after_s: float) -> None:
    batch = large_batch(tmp_path)
    async with opened(path) as warehouse:
        with anyio.move_on_after(after_s):
            await warehouse.load(batch)
        late = time.monotonic()
        await warehouse.open()
        [count] = rows_of(warehouse, "SELECT count(*) FROM activities.raw_events")
        assert count in (0, LARGE + 1)
        receipt = await warehouse.find_receipt(batch.batch_id)
        assert (receipt is not None) == (count > 0)
        await warehouse.load(batch)
        assert time.monotonic() - late < 10
        assert rows_of(warehouse, "SELECT count(*) FROM activities.raw_events") == (LARGE + 1,)
        assert rows_of(warehouse, "SELECT count(DISTINCT activity_id) FROM activities.raw_events") == (LARGE + 1,)


async def test_a_load_cancelled_before_its_commit_rolls_back(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = threading.Event()

    def slow_receipt(*_arguments: object) -> None:
        # A statement of 20 s: long enough to be running when the interruption comes.
        inside.set()
        connection = warehouse._require()
        connection.execute("SELECT count(*) FROM range(20000000000) AS a(x) WHERE hash(x) = 1")

    monkeypatch.setattr("snowledger_uploader._duckdb._warehouse.receipt_event", slow_receipt)
    batch = batch_of(tmp_path, sample_lines(5))
    async with opened(path) as warehouse:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(warehouse.load, batch)
            await anyio.to_thread.run_sync(inside.wait, PATIENCE_S)
            await anyio.sleep(0.1)  # the statement begins right after
            started = time.monotonic()
            tasks.cancel_scope.cancel()
        assert time.monotonic() - started < 2
        monkeypatch.undo()
        await warehouse.open()
        assert rows_of(warehouse, "SELECT count(*) FROM activities.raw_events") == (0,)
        assert rows_of(warehouse, "SELECT count(*) FROM activities._ingest_ids") == (0,)
        assert (await warehouse.load(batch)).inserted == 5
    assert loaded_lines(path) == sample_lines(5)


def rows_of(warehouse: DuckDBWarehouse, sql: str) -> tuple[object, ...]:
    found = warehouse._require().execute(sql).fetchone()
    assert found is not None
    return tuple(found)
