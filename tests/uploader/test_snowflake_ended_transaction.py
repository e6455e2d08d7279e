"""A load whose transaction somebody ends from outside: nothing of it is taken for loaded, and all of it is loaded."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import snowflake.connector
from anyio import to_thread
from tests.acceptance.ledger import wait_until
from tests.fake_snowflake.control import FakeSnowflake
from tests.uploader.backends import ready_snowflake
from tests.uploader.snowflake_samples import CONFIG, opened
from tests.uploader.test_snowflake_faults import SERVER_BUSY, account, drain_of, oracle
from tests.uploader.uploader_samples import batch_of, sample_lines, seal

from snowledger_queue import Spool
from snowledger_uploader import Delivery, UploaderConfig, UploaderError, WarehouseUnavailableError, check_warehouse
from snowledger_uploader._snowflake import _session

__all__ = ["account", "ready_snowflake"]


def before(step: str, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[None]]) -> list[str]:
    """Act before the first statement that the step's words are in; they are in the list when that has happened."""
    run = _session.Session.run
    done: list[str] = []

    async def stopping(session: _session.Session, sql: str, *arguments: Any, **options: Any) -> _session.Result:
        if step in sql and not done:
            done.append(step)
            await act()
        return await run(session, sql, *arguments, **options)

    monkeypatch.setattr(_session.Session, "run", stopping)
    return done


def end_transactions(account: FakeSnowflake) -> None:
    """What an operator may do, or Snowflake itself."""
    with snowflake.connector.connect(**account.connection_options()) as connection:
        cursor = connection.cursor()
        for row in cursor.execute("SHOW TRANSACTIONS").fetchall():
            cursor.execute(f"SELECT SYSTEM$ABORT_TRANSACTION({row[0]})")


@pytest.mark.parametrize(
    ("step", "fault"), [("COPY INTO", "INTO RAW_EVENTS"), ("INTO _INGEST_IDS", ""), ("INTO RAW_EVENTS", "^PUT")]
)
async def test_every_event_is_loaded_once(
    step: str, fault: str, account: FakeSnowflake, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when what follows, on the same session or the next one, meets a warehouse that is away."""

    async def act() -> None:
        await to_thread.run_sync(end_transactions, account)
        if fault:
            account.fault(fault, "reset", code=SERVER_BUSY, message="busy")

    done = before(step, monkeypatch, act)
    seal(spool, sample_lines(3))
    async with opened(spool) as warehouse:
        drain = drain_of(spool, warehouse)
        drained = await drain.drain_batch(await drain.waiting())
    assert done == [step]
    assert account.faults_left() == 0
    assert drained.inserted == 3
    oracle(account, 3)


async def test_a_batch_that_was_ended_before_its_commit_stays_queued(
    account: FakeSnowflake, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before("COMMIT", monkeypatch, partial(to_thread.run_sync, end_transactions, account))
    seal(spool, sample_lines(3))
    async with opened(spool) as warehouse:
        drain = drain_of(spool, warehouse)
        with pytest.raises(UploaderError, match="no receipt"):
            await drain.drain_batch(await drain.waiting())
        assert (await drain.drain_batch(await drain.waiting())).inserted == 3
    oracle(account, 3)


async def test_a_batch_whose_events_are_all_known_is_told_from_one_that_was_ended(
    account: FakeSnowflake, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(tmp_path, sample_lines(3))
    async with opened(spool) as warehouse:
        assert (await warehouse.load(batch)).inserted == 3
        assert (await warehouse.load(batch)).inserted == 0
        before("INTO _INGEST_IDS", monkeypatch, partial(to_thread.run_sync, end_transactions, account))
        with pytest.raises(WarehouseUnavailableError, match="ended from outside"):
            await warehouse.load(batch)
    oracle(account, 3)


async def test_a_late_commit_loads_nothing_twice_though_its_transaction_has_no_name(
    account: FakeSnowflake, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs after the end of a named transaction is in one that Snowflake begins by itself."""

    async def act() -> None:
        await to_thread.run_sync(end_transactions, account)
        account.fault("COMMIT", "stall", seconds=4.0)
        account.fault("^ABORT", "reset")
        account.fault("^LOGOUT", "reset")

    before("COPY INTO", monkeypatch, act)
    batch = batch_of(tmp_path, sample_lines(3))
    async with opened(spool) as warehouse:
        monkeypatch.setattr(_session, "STATEMENT_S", 1.0)
        delivery = Delivery(warehouse, anyio.Event(), lambda _error: None)
        assert (await delivery.deliver(batch, 10.0)).inserted == 3
    assert len({found.session for found in account.statements() if found.sql == "COMMIT"}) == 2
    with snowflake.connector.connect(**account.connection_options()) as connection:
        cursor = connection.cursor()
        wait_until(lambda: not cursor.execute("SHOW TRANSACTIONS").fetchall(), "the late commit is over")
    oracle(account, 3)


async def test_a_look_whether_the_warehouse_can_be_used_ends_nothing(
    account: FakeSnowflake, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``snowledger doctor`` runs beside an uploader, with the same spool."""
    config = UploaderConfig(
        home=spool.home, duckdb_path=spool.home / "warehouse.duckdb", version="1.2.3", snowflake=CONFIG
    )

    async def act() -> None:
        assert "logs in" in await to_thread.run_sync(check_warehouse, config)

    done = before("INTO RAW_EVENTS", monkeypatch, act)
    seal(spool, sample_lines(3))
    async with opened(spool) as warehouse:
        drain = drain_of(spool, warehouse)
        assert (await drain.drain_batch(await drain.waiting())).inserted == 3
    assert done
    assert not [found.sql for found in account.statements() if "ABORT_TRANSACTION" in found.sql]
    assert [found.sql.split()[0] for found in account.statements()].count("COPY") == 1
    oracle(account, 3)
