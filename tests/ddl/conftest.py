"""A DuckDB file with the contract applied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from snowledger_ddl import apply


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


@pytest.fixture(scope="session")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: to copy it costs a quarter of making another one."""
    file = tmp_path_factory.mktemp("applied") / "warehouse.duckdb"
    with duckdb.connect(file) as opened:
        apply(opened, "duckdb")
    return file


@pytest.fixture
def connection(path: Path, applied: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    shutil.copy(applied, path)
    with duckdb.connect(path) as opened:
        yield opened
