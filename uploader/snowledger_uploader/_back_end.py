"""The warehouse that the config names, for the uploader and for whoever only looks whether it can be used."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio

from snowledger_queue import Origin, Spool, open_spool

from ._duckdb import DuckDBWarehouse
from ._own_events import OwnEvents
from ._snowflake import SnowflakeWarehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from snowledger_ddl import Statement

    from ._config import UploaderConfig
    from ._warehouse import Warehouse


@contextmanager
def private_files() -> Iterator[None]:
    """DuckDB gives its write-ahead log the mode that the umask leaves, maybe outside the private spool."""
    umask = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(umask)


def make_origin(config: UploaderConfig) -> Origin:
    """Of the uploader's own events."""
    return Origin(config.version, uuid.uuid4().hex, source_system="snowledger")


def make_warehouse(
    config: UploaderConfig, spool: Spool, origin: Origin, on_schema: Callable[[Sequence[Statement]], None]
) -> Warehouse:
    """The back end that the config names; ``on_schema`` hears what brought a DuckDB file's schema up to date."""
    if config.snowflake is not None:
        return SnowflakeWarehouse(config.snowflake, spool, origin)
    return DuckDBWarehouse(config.duckdb_path, spool.work, origin, on_schema)


def check_warehouse(config: UploaderConfig) -> str:
    """Open the warehouse and close it; return a line that says so. A DuckDB file's schema is brought up to date.

    Raises:
        UploaderError: why it cannot be used.
        snowledger_queue.SpoolError: the spool cannot be used.
    """

    async def check() -> None:
        spool, origin = open_spool(config.home), make_origin(config)
        on_schema = partial(OwnEvents(spool).schema_applied, origin, "duckdb")
        warehouse = make_warehouse(config, spool, origin, on_schema)
        try:
            await warehouse.open()
        finally:
            await warehouse.close()

    with private_files():
        anyio.run(check)
    if config.snowflake is not None:
        place = f"{config.snowflake.database}.{config.snowflake.schema}"
        return f"Snowflake connection {config.snowflake.connection} logs in and finds its tables in {place}"
    return f"DuckDB file {config.duckdb_path} opens and has its schema"
