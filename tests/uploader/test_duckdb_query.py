"""One query on a DuckDB file, where the file and its one process matter; ``test_query`` has the rest."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import duckdb
import psutil
import pytest
from tests.ddl.template_samples import write
from tests.uploader.query_samples import event, load, parquet, query
from tests.uploader.test_duckdb_file import held_by_another_program
from tests.uploader.uploader_samples import ORIGIN, batch_of, opened, raw_line, rows

from snowledger_uploader import (
    DuckDBWarehouse,
    QueryAnswer,
    QueryFailedError,
    RowsRejectedError,
    WarehouseRefusedError,
    WarehouseUnavailableError,
)


def ignore(_rows: int, _bytes: int) -> None:
    pass


async def asked(path: Path, folder: Path, name: str, templates: Path, **changes: Any) -> QueryAnswer:
    async with opened(path) as warehouse:
        return await warehouse.query(query(folder, name, templates, **changes), ignore)


async def test_a_result_of_millions_of_rows_is_stopped_at_the_byte_cap_with_little_memory(
    path: Path, tmp_path: Path, templates: Path
) -> None:
    await load(path, tmp_path, [event(number) for number in range(1_600)])
    cap = 5 * 2**20
    seen: list[tuple[int, int]] = []
    process = psutil.Process()
    largest = 0

    def watch(rows: int, size: int) -> None:
        nonlocal largest
        seen.append((rows, size))
        largest = max(largest, process.memory_info().rss)

    async with opened(path) as warehouse:
        before = process.memory_info().rss
        request = query(tmp_path, "pairs", templates, row_cap=10_000_000, byte_cap=cap)
        answer = await warehouse.query(request, watch)
    assert answer.truncated
    assert cap / 2 < answer.bytes <= cap
    assert 0 < answer.rows < 1_600 * 1_600
    assert parquet(answer.path, "SELECT count(*), count(DISTINCT one || other) FROM result") == [(answer.rows,) * 2]
    assert [rows for rows, _ in seen[:-1]] == sorted(rows for rows, _ in seen[:-1])
    assert any(rows > 0 for rows, _ in seen[:-1]), "progress is reported while it runs"
    assert seen[-1] == (answer.rows, answer.bytes)
    assert largest - before < 250 * 2**20


async def test_rows_of_some_kilobytes_need_no_more_memory_than_there_is(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    folder.mkdir()
    body = """
    SELECT CAST(a.feature_json ->> '$.number' AS BIGINT) * 300 + CAST(b.feature_json ->> '$.number' AS BIGINT) AS n,
    a.feature_json ->> '$.text' AS text FROM events AS a CROSS JOIN events AS b
    WHERE a.customer = $customer AND a.activity = 'cdesk.user_asked' AND b.activity = 'cdesk.user_asked' ORDER BY n
    """
    write(folder, body, "row_limit = 1000000\n")
    await load(path, tmp_path, [event(number, text=f"{number:04}" * 500) for number in range(300)])
    answer = await asked(path, tmp_path, "mine", folder)
    assert (answer.rows, answer.truncated) == (90_000, False)
    sql = "SELECT bool_and(n = file_row_number) FROM read_parquet($1, file_row_number = true)"
    assert duckdb.execute(sql, [str(answer.path)]).fetchall() == [(True,)]


async def test_a_rejected_row_does_not_disturb_a_query(path: Path, tmp_path: Path, templates: Path) -> None:
    await load(path, tmp_path, [event(number) for number in range(300)])
    bad = batch_of(tmp_path, [raw_line(9, b'{"a":}')])
    async with opened(path) as warehouse:
        with anyio.move_on_after(1):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(warehouse.query, query(tmp_path, "endless", templates), ignore)
                await anyio.sleep(0.2)
                with pytest.raises(RowsRejectedError):
                    await warehouse.load(bad)
                await warehouse.open()
                assert (await warehouse.load(batch_of(tmp_path, [event(1_000).line]))).inserted == 1
                answer = await warehouse.query(query(tmp_path, "counts", templates), ignore)
                tasks.cancel_scope.cancel()
    assert answer.sample == [("cdesk.user_asked", 301)]


async def test_a_query_s_error_does_not_disturb_a_load(path: Path, tmp_path: Path, templates: Path) -> None:
    write(templates, "SELECT CAST(activity AS INTEGER) AS n FROM events WHERE customer = $customer", name="wrong")
    await load(path, tmp_path, [event(1)])
    async with opened(path) as warehouse:
        for number in range(2, 6):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(warehouse.load, batch_of(tmp_path, [event(number).line]))
                with pytest.raises(QueryFailedError):
                    await warehouse.query(query(tmp_path, "wrong", templates), ignore)
    assert rows(path, "SELECT count(*) FROM activities.raw_events") == [(10,)]


async def test_a_file_that_another_program_has_open_is_worth_a_retry(
    path: Path, tmp_path: Path, templates: Path
) -> None:
    await load(path, tmp_path, [event(1)])
    warehouse = DuckDBWarehouse(path, tmp_path, ORIGIN)
    with held_by_another_program(path), pytest.raises(WarehouseUnavailableError, match="lock") as caught:
        await warehouse.query(query(tmp_path, "counts", templates), ignore)
    assert str(tmp_path) not in str(caught.value)
    assert (await warehouse.query(query(tmp_path, "counts", templates), ignore)).rows == 1


async def test_a_file_that_is_no_database_is_refused(path: Path, tmp_path: Path, templates: Path) -> None:
    path.write_bytes(b"these are somebody's notes\n" * 1000)
    with pytest.raises(WarehouseRefusedError, match="not a DuckDB database") as caught:
        await DuckDBWarehouse(path, tmp_path, ORIGIN).query(query(tmp_path, "counts", templates), ignore)
    assert str(tmp_path) not in str(caught.value)


async def test_the_file_stays_open_for_a_query_and_is_closed_after_the_last_user(
    path: Path, tmp_path: Path, templates: Path
) -> None:
    await load(path, tmp_path, [event(number) for number in range(300)])
    async with opened(path) as warehouse, anyio.create_task_group() as tasks:
        tasks.start_soon(warehouse.query, query(tmp_path, "endless", templates), ignore)
        await anyio.sleep(0.3)
        await warehouse.close()
        with pytest.raises(AssertionError), held_by_another_program(path):
            pass
        await warehouse.open()
        assert (await warehouse.load(batch_of(tmp_path, [event(1_000).line]))).inserted == 1
        await warehouse.close()
        tasks.cancel_scope.cancel()
    with held_by_another_program(path):
        pass


@asynccontextmanager
async def opened_anew_after_a_query(warehouse: DuckDBWarehouse, folder: Path, templates: Path) -> AsyncIterator[None]:
    """A query that runs meanwhile; until it has ended the warehouse cannot be opened, and then it can be used."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(warehouse.query, query(folder, "endless", templates), ignore)
        await anyio.sleep(0.3)
        yield
        with pytest.raises(WarehouseUnavailableError, match="opened anew"):
            await warehouse.open()
        tasks.cancel_scope.cancel()
    await warehouse.open()
    assert (await warehouse.load(batch_of(folder, [event(1_000).line]))).inserted == 1


async def test_after_a_fatal_error_it_is_opened_anew_once_all_users_are_gone(
    path: Path, tmp_path: Path, templates: Path
) -> None:
    await load(path, tmp_path, [event(number) for number in range(300)])
    async with opened(path) as warehouse, opened_anew_after_a_query(warehouse, tmp_path, templates):
        with broken(warehouse), pytest.raises(WarehouseUnavailableError, match="invalidated"):
            await warehouse.load(batch_of(tmp_path, [event(1_000).line]))


@contextmanager
def broken(warehouse: DuckDBWarehouse) -> Iterator[None]:
    """As after an error in the middle of a commit."""

    def invalidated(_batch: object) -> None:
        raise duckdb.FatalException("FATAL Error: the database has been invalidated")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warehouse, "_load", invalidated)
        yield


async def test_a_file_that_is_replaced_during_a_query_is_not_loaded_into(
    path: Path, tmp_path: Path, templates: Path
) -> None:
    """What is written to a deleted file is lost."""
    await load(path, tmp_path, [event(number) for number in range(300)])
    async with opened(path) as warehouse, opened_anew_after_a_query(warehouse, tmp_path, templates):
        await warehouse.close()
        path.unlink()
    assert rows(path, "SELECT count(*) FROM activities.raw_events") == [(2,)]


async def test_a_result_may_be_of_any_type(path: Path, tmp_path: Path, templates: Path) -> None:
    body = """
    SELECT CAST(ts AS TIMESTAMPTZ) AS zoned, ts AS at, CAST(ts AS DATE) AS day, [1, 2] AS list,
    CAST(1.5 AS DECIMAL(4, 2)) AS money, NULL AS nothing, INTERVAL 1 DAY AS span FROM events WHERE customer = $customer
    """
    write(templates, body, name="typed")
    await load(path, tmp_path, [event(1)])
    answer = await asked(path, tmp_path, "typed", templates)
    [row] = answer.sample
    assert row[0] == row[1]
    assert [name for name, _ in answer.columns] == ["zoned", "at", "day", "list", "money", "nothing", "span"]


async def test_the_statement_cannot_write(path: Path, tmp_path: Path, templates: Path) -> None:
    await load(path, tmp_path, [event(1)])
    with pytest.MonkeyPatch.context() as patch:
        inserting = "DELETE FROM activities.raw_events RETURNING activity_id"
        patch.setattr("snowledger_uploader._duckdb._query.executable", lambda *_args, **_more: inserting)
        patch.setattr("snowledger_uploader._duckdb._query.reserved_parameters", lambda *_args, **_more: {})
        with pytest.raises(QueryFailedError):
            await asked(path, tmp_path, "counts", templates)
    assert rows(path, "SELECT count(*) FROM activities.raw_events") == [(2,)]
