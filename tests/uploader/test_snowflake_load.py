"""The statements of a load: how many, how they are named, and what they leave behind."""

import gzip
import re
from pathlib import Path

import anyio
import pytest
import snowflake.connector
import sqlfluff
from tests.fake_snowflake.control import FakeSnowflake
from tests.uploader.snowflake_samples import CONFIG, PLACE, of_batch, opened, prepare
from tests.uploader.uploader_samples import ORIGIN, batch_of, sample_lines

from snowledger_queue import Spool, open_spool
from snowledger_uploader import Delivery, SnowflakeWarehouse, WarehouseRefusedError
from snowledger_uploader._snowflake import _changes, _load, _warehouse
from snowledger_uploader._snowflake._files import compressed

STATEMENTS = ["PUT", "CREATE", "BEGIN", "COPY", "INSERT", "INSERT", "COMMIT", "SELECT"]


@pytest.fixture(autouse=True)
def _account(fake_snowflake: FakeSnowflake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(fake_snowflake, tmp_path / "home", monkeypatch)


@pytest.mark.parametrize(("files", "lines"), [(1, 1), (30, 100)])
async def test_a_batch_takes_eight_statements_whatever_its_size(
    files: int, lines: int, fake_snowflake: FakeSnowflake, spool: Spool, tmp_path: Path
) -> None:
    async with opened(spool) as warehouse:
        fake_snowflake.forget()
        batch = batch_of(tmp_path, *(sample_lines(lines, lines * number) for number in range(files)))
        await warehouse.load(batch)
        await warehouse.find_receipt(batch.batch_id)
        await warehouse.rest()
    sent = of_batch(fake_snowflake, batch.batch_id)
    assert [found.sql.split()[0] for found in sent] == STATEMENTS


async def test_every_statement_carries_a_tag(fake_snowflake: FakeSnowflake, spool: Spool, tmp_path: Path) -> None:
    async with opened(spool) as warehouse:
        await warehouse.load(batch_of(tmp_path, sample_lines(2)))
        await warehouse.changes(None)
    assert all(re.fullmatch(r"cdesk_[0-9a-f]{8}", found.query_tag or "") for found in fake_snowflake.statements())


async def test_staged_files_are_removed_when_there_is_no_work(
    fake_snowflake: FakeSnowflake, spool: Spool, tmp_path: Path
) -> None:
    async with opened(spool) as warehouse:
        for start in (0, 5):
            await warehouse.load(batch_of(tmp_path, sample_lines(5, start)))
        assert not list(spool.work.iterdir())
        assert len(staged(fake_snowflake)) == 2
    assert not staged(fake_snowflake)
    assert fake_snowflake.sessions() == 0


async def test_what_a_killed_uploader_staged_is_removed_by_the_next_one_and_nothing_else(
    fake_snowflake: FakeSnowflake, spool: Spool, tmp_path: Path
) -> None:
    others = SnowflakeWarehouse(CONFIG, open_spool(tmp_path / "other"), ORIGIN)
    killed = SnowflakeWarehouse(CONFIG, spool, ORIGIN)
    for warehouse in (others, killed):
        await warehouse.open()
        await warehouse.load(batch_of(tmp_path, sample_lines(2)))
        await warehouse.close()
    assert len(staged(fake_snowflake)) == 2
    async with opened(spool) as warehouse:
        await warehouse.rest()
    assert len(staged(fake_snowflake)) == 1


async def test_staged_files_do_not_pile_up_while_there_is_always_work(
    fake_snowflake: FakeSnowflake, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_warehouse, "FORGET_FILES", 2)
    async with opened(spool) as warehouse:
        for start in range(5):
            await warehouse.load(batch_of(tmp_path, sample_lines(1, start)))
            assert len(staged(fake_snowflake)) <= 2


async def test_a_removal_that_fails_keeps_no_batch_from_being_loaded(
    fake_snowflake: FakeSnowflake, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_warehouse, "REMOVE_S", 0.5)
    fake_snowflake.fault("^REMOVE", "stall", seconds=2.0)
    batch = batch_of(tmp_path, sample_lines(2))
    async with opened(spool) as warehouse:
        receipt = await Delivery(warehouse, anyio.Event(), lambda _error: None).deliver(batch, 10.0)
    assert receipt.inserted == 2


async def test_a_session_is_kept_while_idle_and_ends_after_a_while(
    fake_snowflake: FakeSnowflake, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(spool) as warehouse:
        await warehouse.rest()
        await warehouse.rest()
        assert fake_snowflake.sessions() == 1
        monkeypatch.setattr(_warehouse, "IDLE_S", 0.0)
        await warehouse.rest()
        assert fake_snowflake.sessions() == 0


async def test_a_missing_table_is_refused_with_what_to_do(fake_snowflake: FakeSnowflake, spool: Spool) -> None:
    fake_snowflake.sql(f'DROP TABLE {PLACE}."_INGEST_IDS"')
    with pytest.raises(WarehouseRefusedError, match="run: snowledger ddl apply"):
        async with opened(spool):
            pass


async def test_a_missing_database_is_refused_with_what_to_do(fake_snowflake: FakeSnowflake, spool: Spool) -> None:
    fake_snowflake.clear()
    with pytest.raises(WarehouseRefusedError, match="run: snowledger ddl apply"):
        async with opened(spool):
            pass


async def test_a_spool_may_be_in_a_folder_of_any_name(fake_snowflake: FakeSnowflake, tmp_path: Path) -> None:
    async with opened(open_spool(tmp_path / "it's a [spool] *")) as warehouse:
        batch = batch_of(tmp_path, sample_lines(2))
        assert (await warehouse.load(batch)).inserted == 2
    # Nor does Snowflake's history learn where it is.
    assert not any(str(tmp_path) in found.sql for found in fake_snowflake.statements())


def test_a_batch_is_one_file_that_is_the_same_each_time(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, sample_lines(5), sample_lines(5, 5))
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    path = compressed(batch, first)
    assert path.name == f"{batch.batch_id}.ndjson.gz"
    assert gzip.decompress(path.read_bytes()) == b"".join(sample_lines(10))
    assert path.read_bytes() == compressed(batch, second).read_bytes()


def test_the_uploaders_sql_is_snowflakes() -> None:
    texts = [_load._PUT, _load._LAND, _load._COPY, _load._INSERT_IDS, _load._INSERT_EVENTS, _load._FIND_RECEIPT]
    for text in (*texts, _load._COUNT_LANDED, _changes._WHOLE, _changes._BATCHES, _changes._READ):
        sql = text.replace("{folder}", "ab").replace("{name}", "cd").replace("?", "'x'")
        assert sqlfluff.parse(sql, dialect="snowflake"), "what it cannot parse it raises"


def staged(fake: FakeSnowflake) -> list[str]:
    """The stage's files."""
    place = fake.connection_options(database=CONFIG.database, schema=CONFIG.schema)
    with snowflake.connector.connect(**place) as connection:
        return [str(row[0]) for row in connection.cursor().execute("LIST @_BATCHES").fetchall()]
