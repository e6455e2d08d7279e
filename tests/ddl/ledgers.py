"""The contract on DuckDB and on the fake Snowflake, filled and asked as the uploader does it."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import snowflake.connector
from tests.ddl import ddl_samples
from tests.ddl.ddl_samples import LOADED_AT, Row
from tests.fake_snowflake.control import FakeSnowflake

from snowledger_ddl import SnowflakeNames, apply, positional, statements

_NAMES = SnowflakeNames()
_TABLE = f'"{_NAMES.database}"."{_NAMES.schema}".RAW_EVENTS'
_LEFT_OUT = ("01_loader_role", "02_reader_role", "03_warehouse", "13_context_cache", "15_loader_user")
"""What templates do not need, and ``context_cache``, which the fake cannot make."""


class SnowflakeLedger:
    """RAW_EVENTS and the views over it."""

    def __init__(self, fake: FakeSnowflake) -> None:
        self._fake = fake
        self._connection = snowflake.connector.connect(**fake.connection_options(paramstyle="qmark"))
        cursor = self._connection.cursor()
        for statement in statements("snowflake", _NAMES):
            if Path(statement.file).stem not in _LEFT_OUT:
                cursor.execute(statement.sql)
        cursor.execute(f'USE SCHEMA "{_NAMES.database}"."{_NAMES.schema}"')

    def insert(self, events: Sequence[Row], batch: str = "batch-1", loaded_at: datetime = LOADED_AT) -> None:
        for one in events:
            text = json.dumps(one).replace("'", "''")
            values = f"VALUES ('{one['activity_id']}', '{text}', '{batch}', '{loaded_at}')"
            self._fake.sql(f"INSERT INTO {_TABLE} {values}")

    def ask(self, text: str, bound: dict[str, Any]) -> list[Row]:
        """The rows of an executable text, with names and numbers as DuckDB gives them."""
        cursor = self._connection.cursor()
        cursor.execute(*positional(text, bound))
        names = [column.name.lower() for column in cursor.description or []]
        return [
            {
                name: float(value) if isinstance(value, Decimal) else value
                for name, value in zip(names, row, strict=True)
            }
            for row in cursor.fetchall()
        ]

    def clear(self) -> None:
        self._fake.sql(f"DELETE FROM {_TABLE}")  # noqa: S608 - our own table

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def snowflake_account(fake_server: FakeSnowflake) -> Iterator[SnowflakeLedger]:
    fake_server.clear()
    ledger = SnowflakeLedger(fake_server)
    yield ledger
    ledger.close()


Ledger = duckdb.DuckDBPyConnection | SnowflakeLedger


@pytest.fixture(params=["duckdb", "snowflake"])
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    if request.param == "duckdb":
        with duckdb.connect() as connection:
            apply(connection, "duckdb")
            yield connection
    else:
        account: SnowflakeLedger = request.getfixturevalue("snowflake_account")
        account.clear()
        yield account


def insert(ledger: Ledger, *events: Row, batch: str = "batch-1", loaded_at: datetime = LOADED_AT) -> None:
    if isinstance(ledger, SnowflakeLedger):
        ledger.insert(events, batch, loaded_at)
    else:
        ddl_samples.insert(ledger, *events, batch=batch, loaded_at=loaded_at)
