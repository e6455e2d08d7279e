"""A Snowflake account that the loader finds ready, and a warehouse on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import snowflake.connector
from tests.fake_snowflake.control import FakeSnowflake, Statement
from tests.uploader.uploader_samples import ORIGIN

from snowledger_ddl import SnowflakeNames, statements
from snowledger_queue import Spool
from snowledger_uploader import SnowflakeConfig, SnowflakeWarehouse

NAMES = SnowflakeNames()
CONFIG = SnowflakeConfig("fake", NAMES.database, NAMES.schema, NAMES.warehouse, NAMES.loader_role)
PLACE = f'"{NAMES.database}"."{NAMES.schema}"'

_LOADERS = ("04_database", "05_schema", "06__ndjson", "07__batches", "08_raw_events", "09__ingest_ids")


QUERIED = (*_LOADERS, "10_events_live", "11_events", "12_insight_atoms", "14_artifacts")


def make_ready(fake: FakeSnowflake, files: tuple[str, ...] = _LOADERS) -> None:
    """What an administrator does before the first load, or with ``QUERIED`` before the first query."""
    with snowflake.connector.connect(**fake.connection_options()) as connection:
        cursor = connection.cursor()
        for statement in statements("snowflake", NAMES):
            if Path(statement.file).stem in files:
                cursor.execute(statement.sql)


def prepare(fake: FakeSnowflake, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, and the connection's entry for whoever needs it from here."""
    make_ready(fake)
    fake.write_connections_toml(folder)
    monkeypatch.setenv("SNOWFLAKE_HOME", str(folder))
    fake.forget()


@asynccontextmanager
async def opened(spool: Spool) -> AsyncIterator[SnowflakeWarehouse]:
    warehouse = SnowflakeWarehouse(CONFIG, spool, ORIGIN)
    try:
        await warehouse.open()
        yield warehouse
    finally:
        await warehouse.rest(over=True)
        await warehouse.close()


def of_batch(fake: FakeSnowflake, batch_id: str) -> list[Statement]:
    """The statements that carry a batch's tag."""
    return [found for found in fake.statements() if found.query_tag == f"cdesk_{batch_id[:8]}"]
