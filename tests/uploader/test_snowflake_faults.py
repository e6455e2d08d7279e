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
from tests.thorough import THOROUGH
from tests.uploader.backends import emptied, ready_snowflake
from tests.uploader.snowflake_samples import CONFIG, PLACE, of_batch, opened
from tests.uploader.uploader_samples import ORIGIN, batch_of, sample_lines, seal

from snowledger_queue import Spool
from snowledger_uploader import (
    Batch,
    Delivery,
    Drain,
    OwnEvents,
    SnowflakeWarehouse,
    Warehouse,
    WarehouseUnavailableError,
    receipt_id,
)
from snowledger_uploader._drift import DriftAlert
from snowledger_uploader._snowflake import _load, _session, _unfinished
from snowledger_uploader._snowflake._unfinished import begin

__all__ = ["ready_snowflake"]

OPENING = ("LOGIN", "DESCRIBE TABLE", "SHOW TRANSACTIONS")
STEPS = (
    *OPENING,
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


def faults_at(step: str) -> list[tuple[FaultKind, Literal["before", "after"]]]:
    """All of them; in the suite three, and of another step others: each fault comes at three of five steps."""
    first = STEPS.index(step)
    return [fault for number, fault in enumerate(FAULTS) if THOROUGH or (number - first) % len(FAULTS) in {0, 1, 3}]


SERVER_BUSY = 603  # Snowflake's internal error, which may pass


@pytest.fixture
def account(ready_snowflake: FakeSnowflake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSnowflake:
    emptied(ready_snowflake, tmp_path / "home", monkeypatch)
    monkeypatch.setattr(_session, "ATTEMPTS", 1)  # the connector's own retries would hide what is tried here
    return ready_snowflake


def oracle(fake: FakeSnowflake, acked: int) -> None:
    """Events 0 to `acked`, once each; an id for each and for each receipt; a receipt for each batch that has rows."""
    events = fake.sql(f'SELECT activity_id, _batch_id, payload::VARCHAR FROM {PLACE}."RAW_EVENTS"')  # noqa: S608
    found = [row[0] for row in events if orjson.loads(row[2])["customer"] != "snowledger"]
    assert sorted(found) == [f"{number:032x}" for number in range(acked)]
    ids = [row[0] for row in fake.sql(f'SELECT activity_id FROM {PLACE}."_INGEST_IDS"')]  # noqa: S608
    assert sorted(ids) == sorted(row[0] for row in events)
    assert {receipt_id(row[1]) for row in events} == {row[0] for row in events} - set(found)


def drain_of(spool: Spool, warehouse: Warehouse) -> Drain:
    delivery = Delivery(warehouse, anyio.Event(), lambda _error: None)
    return Drain(spool, warehouse, delivery, 10.0, alert=DriftAlert(OwnEvents(spool), ORIGIN))


@pytest.mark.parametrize("step", STEPS)
async def test_every_event_is_loaded_once(step: str, account: FakeSnowflake, spool: Spool) -> None:
    acked = 0
    warehouse = SnowflakeWarehouse(CONFIG, spool, ORIGIN)
    for number, (kind, when) in enumerate(faults_at(step)):
        # Each with an event of the batch before, and with one that is there twice.
        lines = sample_lines(3, acked)
        acked += 3
        seal(spool, [*sample_lines(1, max(0, acked - 4)), *lines, lines[-1]], number + 1)
        account.fault(step, kind, when=when, code=SERVER_BUSY, message="busy")
        drain = drain_of(spool, warehouse)
        drained = await drain.drain_batch(await drain.waiting())
        if step in OPENING:
            await warehouse.close()
            warehouse = SnowflakeWarehouse(CONFIG, spool, ORIGIN)
        assert account.faults_left() == 0, f"{kind} {when} did not come up"
        assert drained.dead_letters == 0
        assert not await drain.waiting()
        oracle(account, acked)
    await warehouse.close()


@pytest.mark.parametrize("step", ["COPY INTO", "COMMIT"])
async def test_a_reply_that_does_not_come_in_time_is_as_good_as_lost(
    step: str, account: FakeSnowflake, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_session, "STATEMENT_S", 1.0)
    seal(spool, sample_lines(3))
    account.fault(step, "stall", seconds=3.0, when="after")
    async with opened(spool) as warehouse:
        drain = drain_of(spool, warehouse)
        await drain.drain_batch(await drain.waiting())
    oracle(account, 3)


async def test_a_commit_whose_reply_was_lost_is_confirmed_and_not_repeated(
    account: FakeSnowflake, spool: Spool, tmp_path: Path
) -> None:
    batch = batch_of(tmp_path, sample_lines(4))
    account.fault("COMMIT", "reset", when="after")
    async with opened(spool) as warehouse:
        receipt = await Delivery(warehouse, anyio.Event(), lambda _error: None).deliver(batch, 10.0)
    assert (receipt.inserted, receipt.batch_id) == (4, batch.batch_id)
    kinds = [found.sql.split()[0] for found in of_batch(account, batch.batch_id)]
    assert kinds.count("COMMIT") == kinds.count("COPY") == 1
    oracle(account, 4)


async def test_a_commit_that_is_late_and_cannot_be_called_back_loads_nothing_twice(
    account: FakeSnowflake, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(spool, sample_lines(3))
    account.fault("COMMIT", "stall", seconds=4.0)
    account.fault("^ABORT", "reset")
    account.fault("^LOGOUT", "reset")
    async with opened(spool) as warehouse:
        monkeypatch.setattr(_session, "STATEMENT_S", 1.0)
        drain = drain_of(spool, warehouse)
        assert (await drain.drain_batch(await drain.waiting())).inserted == 3
    commits = {found.session for found in account.statements() if found.sql == "COMMIT"}
    assert len(commits) == 2
    with snowflake.connector.connect(**account.connection_options()) as connection:
        cursor = connection.cursor()
        wait_until(lambda: not cursor.execute("SHOW TRANSACTIONS").fetchall(), "the late commit is over")
    oracle(account, 3)


async def test_what_a_killed_uploader_left_open_is_ended_by_the_next_one(account: FakeSnowflake, spool: Spool) -> None:
    killed = SnowflakeWarehouse(CONFIG, spool, ORIGIN)
    await killed.open()
    assert killed._session is not None
    await killed._session.run(begin(killed._folder))
    await killed._session.run("INSERT INTO _INGEST_IDS VALUES ('canary', 'canary')")
    async with opened(spool) as warehouse:
        assert await warehouse.find_receipt("0" * 64) is None
        assert not await _unfinished._open(killed._session, killed._folder, None)
    await killed._session.run("COMMIT")
    await killed.close()
    oracle(account, 0)


async def test_the_connector_repeats_a_request_and_snowflake_runs_it_once(
    account: FakeSnowflake, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_session, "ATTEMPTS", 3)
    batch = batch_of(tmp_path, sample_lines(4))
    for step in ("INTO _INGEST_IDS", "COMMIT"):
        account.fault(step, "reset", when="after")
    async with opened(spool) as warehouse:
        assert (await warehouse.load(batch)).inserted == 4
    assert [found.attempts for found in of_batch(account, batch.batch_id) if "COMMIT" in found.sql] == [2]
    oracle(account, 4)


async def test_poison_is_found_by_bisection_and_the_rest_loads(account: FakeSnowflake, spool: Spool) -> None:
    account.poison('"number":5')
    seal(spool, sample_lines(9))
    async with opened(spool) as warehouse:
        drain = drain_of(spool, warehouse)
        drained = []
        while segments := await drain.waiting():
            drained.append(await drain.drain_batch(segments))
    assert sum(batch.events for batch in drained) == sum(batch.inserted for batch in drained) == 8
    assert sum(batch.dead_letters for batch in drained) == 1
    found = account.sql(f'SELECT payload::VARCHAR FROM {PLACE}."RAW_EVENTS"')  # noqa: S608
    numbers = [orjson.loads(row[0])["feature_json"].get("number") for row in found]
    assert sorted(number for number in numbers if number is not None) == [0, 1, 2, 3, 4, 6, 7, 8]


@pytest.mark.parametrize("code", [100_076, 100_079])
async def test_a_damaged_staged_file_makes_no_dead_letter(code: int, account: FakeSnowflake, spool: Spool) -> None:
    seal(spool, sample_lines(1))
    account.fault("COPY INTO", "error", code=code, message="Invalid data encountered during decompression")
    async with opened(spool) as warehouse:
        drain = drain_of(spool, warehouse)
        assert (await drain.drain_batch(await drain.waiting())).dead_letters == 0
    oracle(account, 1)


async def test_a_wrong_staged_file_is_no_obstacle(account: FakeSnowflake, spool: Spool, tmp_path: Path) -> None:
    batch = batch_of(tmp_path, sample_lines(4))
    async with opened(spool) as warehouse:
        assert warehouse._session is not None
        for number, content in enumerate((b"".join(sample_lines(3)), b"{")):
            path = tmp_path / str(number) / f"{batch.batch_id}.ndjson.gz"
            path.parent.mkdir()
            path.write_bytes(gzip.compress(content))
            await warehouse._session.run(f"PUT 'file://{path}' @_BATCHES/{warehouse._folder} AUTO_COMPRESS = FALSE")
            assert (await warehouse.load(batch)).inserted == (0 if number else 4)
    oracle(account, 4)


async def test_a_cancelled_load_is_rolled_back_in_snowflake_too(
    account: FakeSnowflake, spool: Spool, tmp_path: Path
) -> None:
    batch: Batch = batch_of(tmp_path, sample_lines(4))
    account.fault("INTO RAW_EVENTS", "stall", seconds=2.0)
    async with opened(spool) as warehouse:
        with anyio.move_on_after(0.8) as scope:
            await warehouse.load(batch)
        assert scope.cancelled_caught
        assert not list(spool.work.iterdir())
        assert "ABORT" in account.requests()
        await warehouse.open()
        assert await warehouse.find_receipt(batch.batch_id) is None
        assert account.sql(f'SELECT count(*) FROM {PLACE}."_INGEST_IDS"') == [[0]]  # noqa: S608
        assert (await warehouse.load(batch)).inserted == 4
    oracle(account, 4)


async def test_a_load_that_slept_before_its_commit_is_done_again(
    account: FakeSnowflake, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contexts look back some minutes for batches that become visible late."""
    batch = batch_of(tmp_path, sample_lines(3))
    async with opened(spool) as warehouse:
        with monkeypatch.context() as patch:
            patch.setattr(_load, "LATE_S", -1.0)
            with pytest.raises(WarehouseUnavailableError, match="nothing loaded"):
                await warehouse.load(batch)
        assert "COMMIT" not in [found.sql for found in of_batch(account, batch.batch_id)]
        await warehouse.open()
        assert await warehouse.find_receipt(batch.batch_id) is None
        assert (await warehouse.load(batch)).inserted == 3
