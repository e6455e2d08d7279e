"""Both warehouses behind one face, for promises that they share."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.fake_snowflake.control import FakeSnowflake
from tests.uploader import snowflake_samples, uploader_samples
from tests.uploader.snowflake_samples import PLACE

from snowledger_queue import open_spool
from snowledger_uploader import DuckDBWarehouse, SnowflakeWarehouse, Warehouse


class DuckDBBackend:
    """A DuckDB file."""

    name = "duckdb"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "warehouse.duckdb"

    def opened(self) -> AbstractAsyncContextManager[DuckDBWarehouse]:
        return uploader_samples.opened(self.path)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask from outside; `raw_events` and the views have these names."""
        return uploader_samples.rows(self.path, f"WITH raw_events AS (FROM activities.raw_events) {sql}")

    def insert(self, warehouse: Warehouse, payload: str) -> None:
        """A row of somebody else's, in a batch of its own."""
        assert isinstance(warehouse, DuckDBWarehouse)
        sql = "INSERT INTO activities.raw_events VALUES ('x', ?, uuid()::VARCHAR, now()::TIMESTAMP)"
        warehouse._require().execute(sql, [payload])


class SnowflakeBackend:
    """An account of the fake Snowflake."""

    name = "snowflake"

    def __init__(self, folder: Path, fake: FakeSnowflake) -> None:
        self.folder = folder
        self.fake = fake

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[SnowflakeWarehouse]:
        async with snowflake_samples.opened(open_spool(self.folder / "spool")) as warehouse:
            yield warehouse

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        found = self.fake.sql(f"WITH raw_events AS (FROM {PLACE}.RAW_EVENTS) {sql}")
        return [tuple(row) for row in found]

    def insert(self, _warehouse: Warehouse, payload: str) -> None:
        text = payload.replace("'", "''")
        values = f"VALUES ('x', '{text}', uuid()::VARCHAR, now()::TIMESTAMP)"
        self.fake.sql(f"INSERT INTO {PLACE}.RAW_EVENTS {values}")


Backend = DuckDBBackend | SnowflakeBackend


@pytest.fixture(scope="module")
def ready_snowflake(fake_server: FakeSnowflake) -> FakeSnowflake:
    """An account with the contract, for the tests of a module; ``emptied`` before each."""
    fake_server.clear()
    snowflake_samples.make_ready(fake_server, snowflake_samples.QUERIED)
    return fake_server


def emptied(fake: FakeSnowflake, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As new, in a tenth of the time that it takes to make one; and the connection's entry."""
    fake.heal()
    for table in ("RAW_EVENTS", "_INGEST_IDS"):
        fake.sql(f"TRUNCATE {PLACE}.{table}")
    fake.write_connections_toml(folder)
    monkeypatch.setenv("SNOWFLAKE_HOME", str(folder))
    fake.forget()


@pytest.fixture(params=["duckdb", "snowflake"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    if request.param == "duckdb":
        return DuckDBBackend(tmp_path)
    fake: FakeSnowflake = request.getfixturevalue("ready_snowflake")
    emptied(fake, tmp_path / "home", monkeypatch)
    return SnowflakeBackend(tmp_path, fake)
