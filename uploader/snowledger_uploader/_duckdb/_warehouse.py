"""The embedded warehouse: a DuckDB file, opened for a burst of work and closed when idle."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.lowlevel
import duckdb
from anyio import to_thread

from snowledger_queue import Origin, OsFilesystem, timestamp
from snowledger_uploader._errors import BatchTooLargeError, RowsRejectedError, UploaderError, WarehouseUnavailableError
from snowledger_uploader._receipt import read_receipt, receipt_event, receipt_id
from snowledger_uploader._warehouse import Batch, Query, QueryAnswer, Receipt

from . import _changes
from ._errors import first_line, load_error
from ._file import DuckDBFile
from ._query import run_query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from snowledger_queue import Changes

    from ._file import Applied

T = TypeVar("T")

BATCH_BYTES = 128 * 1024 * 1024
"""Several row groups for each thread; a batch of half the size loads a fifth slower, a larger one no faster."""

BATCH_FILES = 1000
"""Bounds the list of names in a statement; the same number that Snowflake's COPY takes."""

# activity_id is the first member of every line and 32 digits long, ts the second (snowledger_queue, invariant 2),
# so both are cut out by position: parsing each line for them would double the work.
_STAGE = """
CREATE OR REPLACE TEMP TABLE staged AS
SELECT CAST(json[17:48] AS UUID) AS id, json AS payload
FROM read_ndjson_objects(?, hive_partitioning = false)
"""
_PICK_NEW = """
CREATE OR REPLACE TEMP TABLE fresh AS
SELECT id, min(staged.rowid) AS first_row, count(*) AS copies
FROM staged ANTI JOIN activities._ingest_ids AS known ON staged.id = known.activity_id
GROUP BY id
"""
# Apart, for to compare the times of all lines would take three times as long as to count them.
_PICK_EARLIEST = """
UPDATE fresh SET first_row = earliest.row_number
FROM (
    SELECT id, arg_min(staged.rowid, payload[51:82]) AS row_number
    FROM staged SEMI JOIN (SELECT id FROM fresh WHERE copies > 1) AS repeated USING (id)
    GROUP BY id
) AS earliest
WHERE fresh.id = earliest.id
"""
_INSERT_EVENTS = """
INSERT INTO activities.raw_events
SELECT payload[17:48], payload, ?, ? FROM staged WHERE rowid IN (SELECT first_row FROM fresh)
"""
# In the order of the ids, for ids that sort by time let zone maps prune the next anti-join.
_INSERT_IDS = "INSERT INTO activities._ingest_ids SELECT id, ? FROM fresh ORDER BY id"
_INSERT_RECEIPT = "INSERT INTO activities.raw_events VALUES (?, ?, ?, ?)"
_INSERT_RECEIPT_ID = "INSERT INTO activities._ingest_ids VALUES (?, ?)"
_FIND_RECEIPT = """
SELECT payload FROM activities.raw_events
WHERE activity_id = ? AND _batch_id = ?
"""

_ROW_ERRORS = (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException)
"""What DuckDB raises for the data of a row, but also for a wrong option: it counts as the former only where rows are
read. Anywhere else it would make the drain loop set every event aside."""


class DuckDBWarehouse:
    """Implements ``Warehouse`` on a DuckDB file."""

    batch_bytes = BATCH_BYTES
    batch_files = BATCH_FILES

    def __init__(self, path: Path, work: Path, origin: Origin, applied: Applied = lambda _ran: None) -> None:
        """``work`` is a private folder for what does not fit into memory; ``applied`` hears what its schema needed."""
        self._path = path
        self._file = DuckDBFile(path, work, applied)
        self._origin = origin
        self._connection: duckdb.DuckDBPyConnection | None = None

    async def open(self) -> None:
        """Open the file; a file that another program has open is unavailable."""
        if self._connection is None:
            await self._call(self._open)

    async def load(self, batch: Batch) -> Receipt:
        """See ``Warehouse.load``."""
        return await self._call(partial(self._load, batch))

    async def find_receipt(self, batch_id: str) -> Receipt | None:
        """See ``Warehouse.find_receipt``."""
        return await self._call(partial(self._find_receipt, batch_id))

    async def changes(self, cursor: str | None) -> Changes:
        """See ``Warehouse.changes``."""
        try:
            return await self._call(partial(self._changes, cursor))
        except BatchTooLargeError as error:
            # Nobody has a batch to halve here.
            raise WarehouseUnavailableError(str(error)) from error

    async def query(self, request: Query, watch: Callable[[int, int], None]) -> QueryAnswer:
        """See ``Warehouse.query``."""
        return await run_query(self._file, request, watch)

    async def rest(self, *, over: bool = False) -> None:  # noqa: ARG002 - the interface
        """Let the file go, for others cannot open it meanwhile."""
        await self.close()

    async def close(self) -> None:
        """End the loader's connection, and close the file unless a query is using it."""
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._close)

    async def _call(self, work: Callable[[], T]) -> T:
        """Run blocking work in a thread to its end. When cancelled, interrupt its statement, which rolls back."""
        failure: UploaderError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._interrupt_when_cancelled, name="duckdb interrupt")
            with anyio.CancelScope(shield=True):
                try:
                    result = await to_thread.run_sync(self._translated, work)
                except UploaderError as error:
                    failure = error
            tasks.cancel_scope.cancel()
        await anyio.lowlevel.checkpoint_if_cancelled()
        if failure is not None:
            raise failure
        return result

    async def _interrupt_when_cancelled(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            connection = self._connection
            if connection is not None:
                with suppress(duckdb.Error):  # closed in the meantime
                    connection.interrupt()

    # What follows runs in a worker thread, one call at a time.

    def _translated(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except duckdb.Error as error:
            # After any error the connection may be in a broken transaction; a new one costs 31 ms.
            self._file.failed(error)
            self._close()
            raise load_error(error, self._path) from error
        except OSError as error:
            self._close()
            message = f"{self._path}: {error.strerror or error}"
            raise WarehouseUnavailableError(message) from error

    def _open(self) -> None:
        self._connection = self._file.cursor()

    def _load(self, batch: Batch) -> Receipt:
        connection = self._require()
        connection.execute("BEGIN TRANSACTION")
        try:
            staged = connection.execute(_STAGE, [[str(path) for path in batch.files]]).fetchone()
        except _ROW_ERRORS as error:
            self._close()
            raise RowsRejectedError(first_line(error)) from error
        if staged != (batch.events,):
            self._close()
            message = f"{self._path}: {staged and staged[0]} of {batch.events} verified lines were read; nothing loaded"
            raise WarehouseUnavailableError(message)
        connection.execute(_PICK_NEW)
        connection.execute(_PICK_EARLIEST)
        row = connection.execute("SELECT count(*) FROM fresh").fetchone()
        inserted = row[0] if row else 0
        moment = _next_moment(connection)
        loaded_at = timestamp(moment)
        if inserted:
            connection.execute(_INSERT_EVENTS, [batch.batch_id, moment])
            connection.execute(_INSERT_IDS, [batch.batch_id])
            receipt = receipt_event(batch, inserted, loaded_at, self._origin)
            payload = receipt.line.decode().rstrip("\n")
            connection.execute(_INSERT_RECEIPT, [receipt.activity_id, payload, batch.batch_id, moment])
            connection.execute(_INSERT_RECEIPT_ID, [receipt.activity_id, batch.batch_id])
        connection.execute("COMMIT")
        # DuckDB flushes its files but not their names, and the segments are deleted once this returns.
        OsFilesystem().sync_folder(self._path.parent)
        connection.execute("DROP TABLE staged; DROP TABLE fresh")
        self._file.require_place()
        return Receipt(batch.batch_id, batch.events, inserted, loaded_at)

    def _find_receipt(self, batch_id: str) -> Receipt | None:
        row = self._require().execute(_FIND_RECEIPT, [receipt_id(batch_id), batch_id]).fetchone()
        self._file.require_place()
        return None if row is None else read_receipt(row[0])

    def _changes(self, cursor: str | None) -> Changes:
        return _changes.changes(self._require(), cursor)

    def _require(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            message = f"{self._path} is closed"
            raise WarehouseUnavailableError(message)
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._file.give_back(connection)


def _next_moment(connection: duckdb.DuckDBPyConnection) -> datetime:
    """Now, or right after the last load: each batch has a later ``_loaded_at``, whatever the clock does."""
    now = datetime.now(UTC).replace(tzinfo=None)
    (last,) = connection.execute("SELECT max(_loaded_at) FROM activities.raw_events").fetchone() or (None,)
    return now if last is None else max(now, last + timedelta(microseconds=1))
