"""What a DuckDB file has got since a cursor, where the file matters; ``test_changes`` has the rest."""

import shutil
from pathlib import Path

import anyio
import duckdb
import pytest
from tests.uploader.test_changes import load, logged, read_all
from tests.uploader.uploader_samples import batch_of, opened, raw_line, rows, sample_event

from snowledger_queue import timestamp
from snowledger_uploader import DuckDBWarehouse


@pytest.mark.parametrize("by", ["deletion", "an older copy", "another ledger"])
async def test_a_file_that_lacks_the_cursor_s_batch_is_read_from_its_start(path: Path, tmp_path: Path, by: str) -> None:
    copy = tmp_path / "copy.duckdb"
    async with opened(path) as warehouse:
        await load(warehouse, tmp_path, logged("old"))
        await warehouse.close()
        shutil.copy(path, copy)
        await warehouse.open()
        await load(warehouse, tmp_path, logged("new"))
        cursor = (await warehouse.changes(None)).cursor
        await warehouse.close()
        path.unlink()
        if by == "an older copy":
            copy.replace(path)
        await warehouse.open()
        if by == "another ledger":
            await load(warehouse, tmp_path, logged("other"))
        found = await warehouse.changes(cursor)
    assert found.reset
    assert [count[0] for count in found.counts] == {"an older copy": ["old"], "another ledger": ["other"]}.get(by, [])
    assert found.cursor != cursor


async def test_every_batch_is_later_than_the_last_whatever_the_clock_does(path: Path, tmp_path: Path) -> None:
    async with opened(path) as warehouse:
        # Somebody's clock was a year ahead.
        warehouse._require().execute(
            "INSERT INTO activities.raw_events VALUES ('x', '{}', 'b', now()::TIMESTAMP + INTERVAL 1 YEAR)"
        )
        seen = (await warehouse.changes(None)).cursor
        for number in range(3):
            batch = batch_of(tmp_path, [sample_event(number).line])
            receipt = await warehouse.load(batch)
            assert await warehouse.find_receipt(batch.batch_id) == receipt
            found = await warehouse.changes(seen)
            assert len(found.lines) == 1
            seen = found.cursor
    moments = rows(path, "SELECT DISTINCT _loaded_at FROM activities.raw_events ORDER BY 1")
    assert len(moments) == 4
    assert receipt.loaded_at == timestamp(moments[-1][0])


async def test_a_call_leaves_nothing_behind_and_may_be_cancelled(path: Path, tmp_path: Path) -> None:
    async with opened(path) as warehouse:
        await warehouse.load(batch_of(tmp_path, [raw_line(number, b'{"n":1}') for number in range(40_000)]))
        whole, _ = await read_all(warehouse)
        assert rows_of(warehouse, "SELECT count(*) FROM duckdb_tables() WHERE temporary") == [(0,)]
        for after_s in (0.0, 0.005, 0.02, 0.05):
            with anyio.move_on_after(after_s):
                await warehouse.changes(None)
            await warehouse.open()
            assert (await read_all(warehouse))[0] == whole
        await load(warehouse, tmp_path, logged())  # no transaction is left open


def rows_of(warehouse: DuckDBWarehouse, sql: str) -> list[tuple[object, ...]]:
    connection: duckdb.DuckDBPyConnection = warehouse._require()
    return connection.execute(sql).fetchall()
