"""What every warehouse promises, on a DuckDB file and on the fake Snowflake."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import orjson
import pytest
from tests.fake_snowflake.control import FakeSnowflake
from tests.uploader.snowflake_samples import CONFIG, PLACE, prepare
from tests.uploader.uploader_samples import ORIGIN, batch_of, raw_line, rows, sample_event, sample_lines

from snowledger_queue import Spool
from snowledger_uploader import (
    DuckDBWarehouse,
    RowsRejectedError,
    SnowflakeWarehouse,
    Warehouse,
    WarehouseUnavailableError,
    receipt_id,
)


@dataclass
class Subject:
    warehouse: Warehouse
    ask: Callable[[str], list[tuple[object, ...]]]
    """Asks the warehouse from outside, with {} for the schema."""

    def held(self) -> dict[str, str]:
        """Events by id, each with its ``ts``; receipts too."""
        found = self.ask("SELECT activity_id, CAST(payload AS VARCHAR) FROM {}.raw_events")
        assert len(found) == len({row[0] for row in found}), "an event is there twice"
        return {str(row[0]): orjson.loads(str(row[1]))["ts"] for row in found}

    def ids(self) -> set[str]:
        found = self.ask("SELECT replace(CAST(activity_id AS VARCHAR), '-', '') FROM {}._ingest_ids")
        assert len(found) == len(set(found))
        return {str(row[0]) for row in found}


@pytest.fixture(params=["duckdb", "snowflake"])
async def subject(request: pytest.FixtureRequest, spool: Spool, tmp_path: Path) -> AsyncIterator[Subject]:
    if request.param == "duckdb":
        path = tmp_path / "warehouse.duckdb"
        found = Subject(DuckDBWarehouse(path, spool.work, ORIGIN), lambda sql: rows(path, sql.format("activities")))
    else:
        fake: FakeSnowflake = request.getfixturevalue("fake_snowflake")
        prepare(fake, tmp_path / "home", request.getfixturevalue("monkeypatch"))

        def ask(sql: str) -> list[tuple[object, ...]]:
            return [tuple(row) for row in fake.sql(sql.format(PLACE))]

        found = Subject(SnowflakeWarehouse(CONFIG, spool, ORIGIN), ask)
    yield found
    await found.warehouse.close()


async def test_a_batch_is_loaded_once_with_its_ids_and_its_receipt(subject: Subject, tmp_path: Path) -> None:
    batch = batch_of(tmp_path, sample_lines(5), sample_lines(5, 5))
    await subject.warehouse.open()
    receipt = await subject.warehouse.load(batch)
    assert (receipt.batch_id, receipt.events, receipt.inserted) == (batch.batch_id, 10, 10)
    assert await subject.warehouse.find_receipt(batch.batch_id) == receipt
    await subject.warehouse.close()
    expected = {f"{number:032x}" for number in range(10)} | {receipt_id(batch.batch_id)}
    assert set(subject.held()) == subject.ids() == expected
    assert subject.ask("SELECT DISTINCT _batch_id FROM {}.raw_events") == [(batch.batch_id,)]


async def test_of_several_events_with_one_id_the_earliest_counts(subject: Subject, tmp_path: Path) -> None:
    late, early = (sample_event(1, f"2026-11-21T04:20:4{second}.000000Z") for second in (9, 1))
    await subject.warehouse.open()
    receipt = await subject.warehouse.load(batch_of(tmp_path, [late.line], [early.line, late.line]))
    assert (receipt.events, receipt.inserted) == (3, 1)
    await subject.warehouse.close()
    assert subject.held()[late.activity_id] == early.ts


async def test_what_an_earlier_batch_brought_is_not_inserted_again(subject: Subject, tmp_path: Path) -> None:
    await subject.warehouse.open()
    await subject.warehouse.load(batch_of(tmp_path, sample_lines(5)))
    receipt = await subject.warehouse.load(batch_of(tmp_path, sample_lines(5, 3)))
    assert receipt.inserted == 3
    await subject.warehouse.close()
    assert len(subject.held()) == 8 + 2  # receipts


async def test_a_batch_without_a_new_event_writes_nothing(subject: Subject, tmp_path: Path) -> None:
    await subject.warehouse.open()
    batch = batch_of(tmp_path, sample_lines(5))
    await subject.warehouse.load(batch)
    again = batch_of(tmp_path, sample_lines(3))
    assert (await subject.warehouse.load(batch)).inserted == 0
    assert (await subject.warehouse.load(again)).inserted == 0
    assert await subject.warehouse.find_receipt(again.batch_id) is None
    await subject.warehouse.close()
    assert len(subject.held()) == len(subject.ids()) == 6


async def test_each_batch_is_later_than_the_one_before(subject: Subject, tmp_path: Path) -> None:
    await subject.warehouse.open()
    for start in (0, 5, 10):
        await subject.warehouse.load(batch_of(tmp_path, sample_lines(5, start)))
    await subject.warehouse.close()
    found = subject.ask("SELECT _loaded_at, count(*) FROM {}.raw_events GROUP BY ALL ORDER BY ALL")
    assert [count for _, count in found] == [6, 6, 6]


async def test_a_rejected_row_keeps_its_whole_batch_out_and_the_next_one_loads(
    subject: Subject, tmp_path: Path
) -> None:
    await subject.warehouse.open()
    with pytest.raises(RowsRejectedError):
        await subject.warehouse.load(batch_of(tmp_path, [*sample_lines(3), raw_line(9, b'{"a":}')]))
    await subject.warehouse.close()
    await subject.warehouse.open()
    await subject.warehouse.load(batch_of(tmp_path, sample_lines(1)))
    await subject.warehouse.close()
    assert len(subject.held()) == 2


async def test_lines_that_are_not_read_keep_their_batch_out(subject: Subject, tmp_path: Path) -> None:
    batch = batch_of(tmp_path, sample_lines(3))
    await subject.warehouse.open()
    with pytest.raises(WarehouseUnavailableError, match="3 of 4 verified lines"):
        await subject.warehouse.load(batch._replace(events=4))
    await subject.warehouse.open()
    assert await subject.warehouse.find_receipt(batch.batch_id) is None
    await subject.warehouse.close()
    assert not subject.held()


async def test_a_cancelled_load_has_no_effect_or_a_whole_one(subject: Subject, tmp_path: Path) -> None:
    for number in range(8):
        batch = batch_of(tmp_path, sample_lines(20, 20 * number))
        await subject.warehouse.open()
        with anyio.move_on_after(0.004 * (number + 1) ** 2):
            await subject.warehouse.load(batch)
        await subject.warehouse.close()
        await subject.warehouse.open()
        receipt = await subject.warehouse.find_receipt(batch.batch_id)
        await subject.warehouse.close()
        mine = subject.ask(f"SELECT count(*) FROM {{}}.raw_events WHERE _batch_id = '{batch.batch_id}'")  # noqa: S608
        assert mine == [(0 if receipt is None else 21,)]
    assert set(subject.held()) == subject.ids()


async def test_without_work_to_do_it_rests_and_can_be_opened_again(subject: Subject, tmp_path: Path) -> None:
    await subject.warehouse.rest()
    await subject.warehouse.open()
    await subject.warehouse.open()
    await subject.warehouse.load(batch_of(tmp_path, sample_lines(2)))
    await subject.warehouse.rest()
    await subject.warehouse.open()
    assert (await subject.warehouse.load(batch_of(tmp_path, sample_lines(3)))).inserted == 1
    await subject.warehouse.rest(over=True)
    await subject.warehouse.close()
    assert len(subject.held()) == 3 + 2
    with pytest.raises(WarehouseUnavailableError):
        await subject.warehouse.find_receipt("0" * 64)


async def test_changes_tell_what_a_batch_brought_once(subject: Subject, tmp_path: Path) -> None:
    await subject.warehouse.open()
    first = await subject.warehouse.changes(None)
    await subject.warehouse.load(batch_of(tmp_path, sample_lines(3)))
    second = await subject.warehouse.changes(first.cursor)
    third = await subject.warehouse.changes(second.cursor)
    await subject.warehouse.close()
    assert not first.lines
    assert sorted(orjson.loads(line)["feature_json"]["number"] for line in second.lines) == [0, 1, 2]
    assert not third.lines
    assert (second.reset, third.reset) == (False, False)
