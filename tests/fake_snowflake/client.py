"""The real connector, in fewer words."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import snowflake.connector
from snowflake.connector.errors import DatabaseError
from tests.fake_snowflake.control import FakeSnowflake


class Client:
    """A connection to the fake."""

    def __init__(self, fake: FakeSnowflake, **options: Any) -> None:
        self.connection = snowflake.connector.connect(**fake.connection_options(paramstyle="qmark", **options))

    def rows(self, sql: str, *bound: Any, parameters: dict[str, Any] | None = None) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, bound or None, _statement_params=parameters)
            return list(cursor.fetchall())

    def value(self, sql: str, *bound: Any) -> Any:
        return self.rows(sql, *bound)[0][0]

    def count(self, sql: str, *bound: Any) -> int:
        """How many rows a statement has changed."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, bound or None)
            return int(cursor.rowcount or 0)

    def fails(self, sql: str, *bound: Any, parameters: dict[str, Any] | None = None) -> int:
        """Run a statement that fails; returns Snowflake's code."""
        with pytest.raises(DatabaseError) as failure:
            self.rows(sql, *bound, parameters=parameters)
        return int(failure.value.errno or 0)

    def put(self, file: Path, at: str, options: str = "") -> str:
        """Upload a file; returns UPLOADED or SKIPPED."""
        row = self.rows(f"PUT 'file://{file}' {at} AUTO_COMPRESS = FALSE {options}")[0]
        return str(row[6])

    def close(self) -> None:
        self.connection.close()


def write_lines(path: Path, lines: Iterable[Any]) -> Path:
    """Write a gzip file of JSON lines; text stays as it is."""
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_bytes(gzip.compress("".join(f"{text}\n" for text in texts).encode()))
    return path
