"""One query on a DuckDB file: its result goes to disk in parts while it runs, and becomes one Parquet file at the end.

``COPY … (FILE_SIZE_BYTES …)`` writes ``data_0.parquet``, ``data_1.parquet`` and so on in the result's order, and each
is whole when the next one begins. So the statement can be stopped once there are enough bytes, and what is whole is
kept.
"""

from __future__ import annotations

import re
from threading import Lock
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import duckdb
from anyio import to_thread

from snowledger_ddl import TemplateError, bound_parameters, executable, reserved_parameters
from snowledger_uploader._errors import (
    QueryFailedError,
    UploaderError,
    WarehouseRefusedError,
    WarehouseUnavailableError,
)
from snowledger_uploader._warehouse import SAMPLE_ROWS, Query, QueryAnswer

from ._errors import public, query_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ._file import DuckDBFile

PART_BYTES = "4MB"
"""How much a result may grow beyond its cap before it is stopped, and what is counted at a time."""

_ROW_GROUP = "ROW_GROUP_SIZE 20480, ROW_GROUP_SIZE_BYTES '8MB'"
"""What is in memory of each file: rows of 2 KB fill the default of 122,880 rows with 250 MB."""

ASSEMBLY_MEMORY = "128MB"
"""For putting the parts together, beside ``_file.MEMORY_LIMIT``; it takes some 10 MB more than a row group."""

LOOK_S = 0.05
"""How often the parts are looked at, and a statement that shall end is interrupted: once may fall between two."""

_PART = re.compile(r"data_(\d+)\.parquet")


async def run_query(file: DuckDBFile, request: Query, watch: Callable[[int, int], None]) -> QueryAnswer:
    """Implements ``Warehouse.query``."""
    running = DuckDBQuery(file, request)
    failure: UploaderError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_attend, running, watch, name="duckdb query")
        with anyio.CancelScope(shield=True):
            try:
                answer = await to_thread.run_sync(running.run)
            except UploaderError as error:
                failure = error
        tasks.cancel_scope.cancel()
    await anyio.lowlevel.checkpoint_if_cancelled()
    if failure is not None:
        raise failure
    watch(answer.rows, answer.bytes)
    return answer


async def _attend(running: DuckDBQuery, watch: Callable[[int, int], None]) -> None:
    """Report progress; once cancelled, interrupt until the thread has ended."""
    try:
        while True:
            await anyio.sleep(LOOK_S)
            watch(*await to_thread.run_sync(running.look))
    finally:
        with anyio.CancelScope(shield=True):
            while not running.ended:
                running.interrupt()
                await anyio.sleep(LOOK_S / 10)


class DuckDBQuery:
    """A query while it runs: ``run`` for one thread, the rest for another."""

    def __init__(self, file: DuckDBFile, request: Query) -> None:
        self.ended = False
        """Whether ``run`` is over."""
        self._file = file
        self._request = request
        self._parts = request.folder / "parts"
        self._connection: duckdb.DuckDBPyConnection | None = None
        """That which runs a statement now."""
        self._copying = False
        self._enough = False
        self._meter: duckdb.DuckDBPyConnection | None = None
        """Reads how many rows a part has, while the other connection is busy."""
        self._metering = Lock()
        self._counted: dict[Path, int] = {}
        """Rows of the parts that are whole."""

    def run(self) -> QueryAnswer:
        """Run it to its end.

        Raises:
            QueryFailedError: the warehouse's reason.
            WarehouseRefusedError, WarehouseUnavailableError: as ``Warehouse`` says; also when it was interrupted.
        """
        try:
            return self._run()
        except duckdb.Error as error:
            self._file.failed(error)
            raise query_error(error, self._file.path, shared=self._file.shared) from error
        except (WarehouseRefusedError, WarehouseUnavailableError) as error:
            # The first line: what follows is the statement that failed.
            raise type(error)(public(str(error).splitlines()[0])) from error
        except OSError as error:
            message = f"the result cannot be written: {error.strerror or type(error).__name__}"
            raise WarehouseUnavailableError(message) from error
        finally:
            self._connection = None
            self.ended = True

    def look(self) -> tuple[int, int]:
        """Rows and bytes so far. Stops the statement when there are enough bytes. Never raises."""
        try:
            whole = self._whole_parts()
            size = sum(part.stat().st_size for part in whole)
            self._count(whole)
        except (OSError, duckdb.Error):
            return sum(self._counted.values()), 0  # they are being put together
        if size > self._request.byte_cap and self._copying:
            self._enough = True
            self.interrupt()
        return min(sum(self._counted.values()), self._request.row_cap), size

    def interrupt(self) -> None:
        """End the statement that runs now."""
        connection = self._connection
        if connection is not None:
            try:
                connection.interrupt()
            except duckdb.Error:
                return  # closed in the meantime

    def _run(self) -> QueryAnswer:
        request = self._request
        try:
            # One row more than may be kept, to know whether there are more.
            statement = executable(request.template, row_cap=request.row_cap + 1)
        except TemplateError as error:
            raise QueryFailedError(public("; ".join(problem.reason for problem in error.problems))) from error
        bound = bound_parameters(request.template, request.parameters)
        bound |= reserved_parameters(
            request.template, customer=request.customer, customers=request.customers, now=request.now
        )
        request.folder.mkdir(parents=True)
        cursor = self._file.cursor()
        try:
            self._connection = cursor
            self._meter = cursor.cursor()
            parts = self._copy(cursor, statement, bound)
            rows = sum(self._counted.values())
            path, kept = self._joined(parts, rows)
            self._connection = cursor
            columns, sample = _described(cursor, path)
        finally:
            with self._metering:
                meter, self._meter = self._meter, None
                if meter is not None:
                    meter.close()
            self._file.give_back(cursor)
        truncated = self._enough or kept < rows
        return QueryAnswer(path, columns, sample, kept, path.stat().st_size, truncated)

    def _copy(self, cursor: duckdb.DuckDBPyConnection, statement: str, bound: dict[str, object]) -> list[Path]:
        """Write the result's parts; those that are whole, in order."""
        cursor.execute("SET SESSION preserve_insertion_order = true; SET SESSION TimeZone = 'UTC'")
        # One statement, so the customer sees one state of the warehouse; and it can change nothing in it.
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        self._copying = True
        try:
            cursor.execute(
                f"COPY ({statement}) TO {_quoted(self._parts)}"
                f" (FORMAT parquet, FILE_SIZE_BYTES '{PART_BYTES}', {_ROW_GROUP})",
                bound,
            )
            parts = self._all_parts()
        except duckdb.InterruptException:
            if not self._enough:
                raise
            parts = self._whole_parts()
        finally:
            self._copying = False
            cursor.rollback()
        self._count(parts)
        return parts

    def _joined(self, parts: list[Path], rows: int) -> tuple[Path, int]:
        """One file of as many rows as the caps allow, and how many those are."""
        request = self._request
        size = sum(part.stat().st_size for part in parts)
        if len(parts) == 1 and rows <= request.row_cap and size <= request.byte_cap:
            return parts[0], rows
        path = request.folder / "joined.parquet"
        kept = min(rows, request.row_cap)
        if size * kept > request.byte_cap * rows:
            kept = int(request.byte_cap * rows / size)
        # One thread and no care for the order: then rows come out as they went in, and nothing is collected in memory.
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": ASSEMBLY_MEMORY,
            "threads": 1,
            "preserve_insertion_order": False,
            "temp_directory": str(request.folder / "duckdb"),
            "autoinstall_known_extensions": False,
        }
        with duckdb.connect(config=settings) as connection:
            self._connection = connection
            connection.execute("SET enable_progress_bar = false")
            names = ", ".join(map(_quoted, parts))
            while True:
                first = f"SELECT * FROM read_parquet([{names}], hive_partitioning = false) LIMIT {kept}"  # noqa: S608
                connection.execute(f"COPY ({first}) TO {_quoted(path)} (FORMAT parquet, {_ROW_GROUP})")
                size = path.stat().st_size
                if size <= request.byte_cap or kept == 0:
                    return path, kept
                kept = min(kept - 1, int(kept * request.byte_cap / size * 0.95))

    def _whole_parts(self) -> list[Path]:
        """Those that nothing is added to any more, while the statement runs."""
        return self._all_parts()[:-1]

    def _all_parts(self) -> list[Path]:
        if not self._parts.is_dir():
            return []
        found = ((_PART.fullmatch(path.name), path) for path in self._parts.iterdir())
        return [path for _, path in sorted((int(match[1]), path) for match, path in found if match is not None)]

    def _count(self, parts: list[Path]) -> None:
        with self._metering:
            for part in parts:
                if self._meter is not None and part not in self._counted:
                    sql = f"SELECT num_rows FROM parquet_file_metadata({_quoted(part)})"  # noqa: S608 - our own path
                    [[self._counted[part]]] = self._meter.execute(sql).fetchall()


def _described(
    cursor: duckdb.DuckDBPyConnection, path: Path
) -> tuple[tuple[tuple[str, str], ...], list[tuple[object, ...]]]:
    """Names and types of the file's columns, and its first rows."""
    source = f"FROM read_parquet({_quoted(path)}, hive_partitioning = false)"
    described = cursor.execute(f"DESCRIBE {source}").fetchall()
    columns = tuple((str(name), str(kind)) for name, kind, *_ in described)
    values = ", ".join(_readable(name, kind) for name, kind in columns)
    return columns, cursor.execute(f"SELECT {values} {source} LIMIT {SAMPLE_ROWS}").fetchall()


def _readable(name: str, kind: str) -> str:
    """A column in a type of which Python has values without further modules; UTC, as the session is."""
    name = '"' + name.replace('"', '""') + '"'
    if "TIME ZONE" not in kind:
        return name
    return f"CAST({name} AS TIMESTAMP)" if kind == "TIMESTAMP WITH TIME ZONE" else f"CAST({name} AS VARCHAR)"


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
