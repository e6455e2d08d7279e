"""A DuckDB file with the contract applied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from snowledger_ddl import apply


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


@pytest.fixture
def connection(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(path) as opened:
        apply(opened, "duckdb")
        yield opened
