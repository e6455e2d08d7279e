"""Whatever fails at whichever statement, before it is carried out or after: every event is in Snowflake once."""

import gzip
from pathlib import Path
from typing import Literal

import anyio
import orjson
import pytest
import snowflake.connector
from tests.acceptance.ledger import wait_until
from tests.fake_snowflake.control import FakeSnowflake, FaultKind
from tests.uploader.snowflake_samples import CONFIG, PLACE, of_batch, opened, prepare
from tests.uploader.uploader_samples import ORIGIN, batch_of, sample_lines, seal

from snowledger_queue import Spool
from snowledger_uploader import (
    Batch,
    Delivery,
    Drain,
    SnowflakeWarehouse,
    Warehouse,
    WarehouseUnavailableError,
    receipt_id,
)
from snowledger_uploader._snowflake import _load, _session, _unfinished
from snowledger_uploader._snowflake._unfinished import begin

STEPS = (
    "LOGIN",
    "DESCRIBE TABLE",
    "SHOW TRANSACTIONS",
    "PUT",
    "UPLOAD",
    "TEMPORARY TABLE",
    "BEGIN",
    "COPY INTO",
    "INTO _INGEST_IDS",
    "INTO RAW_EVENTS",
    "COMMIT",
    "TO_JSON",
)
FAULTS: tuple[tuple[FaultKind, Literal["before", "after"]], ...] = (
    ("reset", "before"),
    ("reset", "after"),
    ("503", "after"),
    ("gone", "before"),
    ("error", "before"),
)
SERVER_BUSY = 603  # Snowflake's internal error, which may pass


@pytest.fixture(autouse=True)
def _account(fake_snowflake: FakeSnowflake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(fake_snowflake, tmp_path / "home", monkeypatch)
    monkeypatch.setattr(_session, "ATTEMPTS", 1)  # the connector's own retries would hide what is tried here


def oracle(fake: FakeSnowflake, acked: int) -> None:
    """Events 0 to `acked`, once each; an id for each and for each receipt; a receipt for each batch that has rows."""
    events = fake.sql(f'SELECT activity_id, _batch_id, payload::VARCHAR FROM {PLACE}."RAW_EVENTS"')  # noqa: S608
    found = [row[0] for row in events if orjson.loads(row[2])["customer"] != "snowledger"]
    assert sorted(found) == [f"{number:032x}" for number in range(acked)]
    ids = [row[0] for row in fake.sql(f'SELECT activity_id FROM {PLACE}."_INGEST_IDS"')]  # noqa: S608
    assert sorted(ids) == sorted(row[0] for row in events)
    assert {receipt_id(row[1]) for row in events} == {row[0] for row in events} - set(found)


def drain_of(spool: Spool, warehouse: Warehouse) -> Drain:
    return Drain(spool, warehouse, Delivery(warehouse, anyio.Event(), lambda _error: None), 10.0)


@pytest.mark.parametrize("step", STEPS)
async def test_every_event_is_loaded_once(step: str, fake_snowflake: FakeSnowflake, spool: Spool) -> None:
    acked = 0
    for number, (kind, when) in enumerate(FAULTS):
        # Each with an event of the batch before, and with one that is there twice.
        lines = sample_lines(3, acked)
        acked += 3
        seal(spool, [*sample_lines(1, max(0, acked - 4)), *lines, lines[-1]], number + 1)
        fake_snowflake.fault(step, kind, when=when, code=SERVER_BUSY, message="busy")
        warehouse = SnowflakeWarehouse(CONFIG, spool, ORIGIN)  # a restart, for the statements that begin one
        drain = drain_of(spool, warehouse)
        drained = await drain.drain_batch(await drain.waiting())
        await warehouse.close()
        assert fake_snowflake.faults_left() == 0, f"{kind} {when} did not come up"
        assert drained.dead_letters == 0
        assert not await drain.waiting()
        oracle(fake_snowflake, acked)


@pytest.mark.parametrize("step", ["COPY INTO", "COMMIT"])
async def test_a_reply_that_does_not_come_in_time_is_as_good_as_lost(
    step: str, fake_snowflake: FakeSnowflake, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_session, "STATEMENT_S", 1.0)
    seal(spool, sample_lines(3))
    fake_snowflake.fault(step, "stall", seconds=3.0, when="after")
    async with opened(spool) as warehouse:
        drain = drain_of(spool, warehouse)
        await drain.drain_batch(await drain.waiting())
    oracle(fake_snowflake, 3)


async def test_a_commit_whose_reply_was_lost_is_confirmed_and_not_repeated(
    fake_snowflake: FakeSnowflake, spool: Spool, tmp_path: Path
) -> None:
    batch = batch_of(tmp_path, sample_lines(4))
    fake_snowflake.fault("COMMIT", "reset", when="after")
    async with opened(spool) as warehouse:
        receipt = await Delivery(warehouse, anyio.Event(), lambda _error: None).deliver(batch, 10.0)
    assert (receipt.inserted, receipt.batch_id) == (4, batch.batch_id)
    kinds = [found.sql.split()[0] for found in of_batch(fake_snowflake, batch.batch_id)]
    assert kinds.count("COMMIT") == kinds.count("COPY") == 1
    oracle(fake_snowflake, 4)


async def test_a_commit_that_is_late_and_cannot_be_called_back_loads_nothing_twice(
    fake_snowflake: FakeSnowflake, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(spool, sample_lines(3))
    fake_snowflake.fault("COMMIT", "stall", seconds=4.0)
    fake_snowflake.fault("^ABORT", "reset")
    fake_snowflake.fault("^LOGOUT", "reset")
    async with opened(spool) as warehouse:
        monkeypatch.setattr(_session, "STATEMENT_S", 1.0)
        drain = drain_of(spool, warehouse)
        assert (await drain.drain_batch(await drain.waiting())).inserted == 3
    commits = {found.session for found in fake_snowflake.statements() if found.sql == "COMMIT"}
    assert len(commits) == 2
    with snowflake.connector.connect(**fake_snowflake.connection_options()) as connection:
        cursor = connection.cursor()
        wait_until(lambda: not cursor.execute("SHOW TRANSACTIONS").fetchall(), "the late commit is over")
    oracle(fake_snowflake, 3)


async def test_what_a_killed_uploader_left_open_is_ended_by_the_next_one(
    fake_snowflake: FakeSnowflake, spool: Spool
) -> None:
    killed = SnowflakeWarehouse(CONFIG, spool, ORIGIN)
    await killed.open()
    assert killed._session is not None
    await killed._session.run(begin(killed._folder))
    await killed._session.run("INSERT INTO _INGEST_IDS VALUES ('canary', 'canary')")
    async with opened(spool):
        assert not await _unfinished._open(killed._session, killed._folder)
    await killed._session.run("COMMIT")
    await killed.close()
    oracle(fake_snowflake, 0)


async def test_the_connector_repeats_a_request_and_snowflake_runs_it_once(
    fake_snowflake: FakeSnowflake, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_session, "ATTEMPTS", 3)
    batch = batch_of(tmp_path, sample_lines(4))
    for step in ("INTO _INGEST_IDS", "COMMIT"):
        fake_snowflake.fault(step, "reset", when="after")
    async with opened(spool) as warehouse:
        assert (await warehouse.load(batch)).inserted == 4
    assert [found.attempts for found in of_batch(fake_snowflake, batch.batch_id) if "COMMIT" in found.sql] == [2]
    oracle(fake_snowflake, 4)


async def test_poison_is_found_by_bisection_and_the_rest_loads(fake_snowflake: FakeSnowflake, spool: Spool) -> None:
    fake_snowflake.poison('"number":5')
    seal(spool, sample_lines(9))
    async with opened(spool) as warehouse:
        drain = drain_of(spool, warehouse)
        drained = await drain.drain_batch(await drain.waiting())
    assert (drained.events, drained.inserted, drained.dead_letters) == (8, 8, 1)
    found = fake_snowflake.sql(f'SELECT payload::VARCHAR FROM {PLACE}."RAW_EVENTS"')  # noqa: S608
    numbers = [orjson.loads(row[0])["feature_json"].get("number") for row in found]
    assert sorted(number for number in numbers if number is not None) == [0, 1, 2, 3, 4, 6, 7, 8]


@pytest.mark.parametrize("code", [100_076, 100_079])
async def test_a_damaged_staged_file_makes_no_dead_letter(
    code: int, fake_snowflake: FakeSnowflake, spool: Spool
) -> None:
    seal(spool, sample_lines(1))
    fake_snowflake.fault("COPY INTO", "error", code=code, message="Invalid data encountered during decompression")
    async with opened(spool) as warehouse:
        drain = drain_of(spool, warehouse)
        assert (await drain.drain_batch(await drain.waiting())).dead_letters == 0
    oracle(fake_snowflake, 1)


async def test_a_wrong_staged_file_is_no_obstacle(fake_snowflake: FakeSnowflake, spool: Spool, tmp_path: Path) -> None:
    batch = batch_of(tmp_path, sample_lines(4))
    async with opened(spool) as warehouse:
        assert warehouse._session is not None
        for number, content in enumerate((b"".join(sample_lines(3)), b"{")):
            path = tmp_path / str(number) / f"{batch.batch_id}.ndjson.gz"
            path.parent.mkdir()
            path.write_bytes(gzip.compress(content))
            await warehouse._session.run(f"PUT 'file://{path}' @_BATCHES/{warehouse._folder} AUTO_COMPRESS = FALSE")
            assert (await warehouse.load(batch)).inserted == (0 if number else 4)
    oracle(fake_snowflake, 4)


async def test_a_cancelled_load_is_rolled_back_in_snowflake_too(
    fake_snowflake: FakeSnowflake, spool: Spool, tmp_path: Path
) -> None:
    batch: Batch = batch_of(tmp_path, sample_lines(4))
    fake_snowflake.fault("INTO RAW_EVENTS", "stall", seconds=2.0)
    async with opened(spool) as warehouse:
        with anyio.move_on_after(0.8) as scope:
            await warehouse.load(batch)
        assert scope.cancelled_caught
        assert not list(spool.work.iterdir())
        assert "ABORT" in fake_snowflake.requests()
        await warehouse.open()
        assert await warehouse.find_receipt(batch.batch_id) is None
        assert fake_snowflake.sql(f'SELECT count(*) FROM {PLACE}."_INGEST_IDS"') == [[0]]  # noqa: S608
        assert (await warehouse.load(batch)).inserted == 4
    oracle(fake_snowflake, 4)


async def test_a_load_that_slept_before_its_commit_is_done_again(
    fake_snowflake: FakeSnowflake, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contexts look back some minutes for batches that become visible late."""
    batch = batch_of(tmp_path, sample_lines(3))
    async with opened(spool) as warehouse:
        with monkeypatch.context() as patch:
            patch.setattr(_load, "LATE_S", -1.0)
            with pytest.raises(WarehouseUnavailableError, match="nothing loaded"):
                await warehouse.load(batch)
        assert "COMMIT" not in [found.sql for found in of_batch(fake_snowflake, batch.batch_id)]
        await warehouse.open()
        assert await warehouse.find_receipt(batch.batch_id) is None
        assert (await warehouse.load(batch)).inserted == 3
