"""The result of a query on its way to disk: it is written in parts while it comes, and becomes one Parquet file.

``COPY … (FILE_SIZE_BYTES …)`` writes ``data_0.parquet``, ``data_1.parquet`` and so on in the result's order, and each
is whole when the next one begins. So the statement can be stopped once there are enough bytes, and what is whole is
kept. A result that comes in pieces has a folder of parts for each.
"""

from __future__ import annotations

import math
from threading import Lock
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import duckdb
from anyio import to_thread

from ._errors import UploaderError
from ._warehouse import SAMPLE_ROWS, QueryAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ._warehouse import Query

PART_BYTES = "4MB"
"""How much a result may grow beyond its cap before it is stopped, and what is counted at a time."""

_ROW_GROUP = "ROW_GROUP_SIZE 20480, ROW_GROUP_SIZE_BYTES '8MB'"
"""What is in memory of each file: rows of 2 KB fill the default of 122,880 rows with 250 MB."""

_PIECES = "union_by_name = true, hive_partitioning = false"
"""To read all parts: a column may have small integers in one piece and large ones in another."""

ASSEMBLY_MEMORY = "128MB"
"""For putting the parts together, beside what reads the result; it takes some 10 MB more than a row group."""

LOOK_S = 0.05
"""How often the parts are looked at, and a statement that shall end is interrupted: once may fall between two."""


class ResultFile:
    """The file of one result: ``copy`` and ``finish`` for one thread, the rest for another."""

    def __init__(self, request: Query) -> None:
        self.begun = False
        """Whether the warehouse has been reached: to find a file locked may take longer than a look at the result."""
        self.ended = False
        """Whether nothing is to be interrupted any more."""
        self._request = request
        self._parts = request.folder / "parts"
        self._whole: list[Path] = []
        self._connection: duckdb.DuckDBPyConnection | None = None
        """That which runs a statement now."""
        self._copies = 0
        self._copying = False
        self._enough = False
        self._meter: duckdb.DuckDBPyConnection | None = None
        """Reads how many rows a part has, while the other connection is busy."""
        self._metering = Lock()
        self._counted: dict[Path, int] = {}
        """Rows of the parts that are whole."""

    def copy(self, cursor: duckdb.DuckDBPyConnection, statement: str, bound: Mapping[str, object]) -> None:
        """Write what the statement gives into further parts, until there are enough bytes. Raises ``duckdb.Error``."""
        self.begun = True
        self._connection = cursor
        self._meter = self._meter or cursor.cursor()
        self._parts.mkdir(exist_ok=True)
        folder = self._parts / str(self._copies)
        self._copies += 1
        self._copying = True
        try:
            cursor.execute(
                f"COPY ({statement}) TO {_quoted(folder)}"
                f" (FORMAT parquet, FILE_SIZE_BYTES '{PART_BYTES}', {_ROW_GROUP})",
                bound,
            )
            self._whole = self._all_parts()
        except duckdb.InterruptException:
            if not self._enough:
                raise
            self._whole = self._all_parts()[:-1]
        finally:
            self._copying = False
        self._count(self._whole)

    @property
    def full(self) -> bool:
        """Whether more would be too many bytes. Raises ``OSError``."""
        return self._enough or _size(self._whole) > self._request.byte_cap

    def finish(self, cursor: duckdb.DuckDBPyConnection) -> QueryAnswer:
        """One file of as many rows as the caps allow, and its first rows. Raises ``duckdb.Error`` and ``OSError``."""
        rows = sum(self._counted.values())
        path, kept = self._joined(rows)
        self._connection = cursor
        columns, sample = _described(cursor, path)
        return QueryAnswer(path, columns, sample, kept, path.stat().st_size, self._enough or kept < rows)

    def close(self) -> None:
        """Let go of the connections. For the thread that writes."""
        self._connection = None
        with self._metering:
            meter, self._meter = self._meter, None
            if meter is not None:
                meter.close()

    def look(self) -> tuple[int, int]:
        """Rows and bytes so far. Stops the statement when there are enough bytes. Never raises."""
        try:
            whole = self._all_parts()[:-1]
            size = _size(whole)
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

    def _joined(self, rows: int) -> tuple[Path, int]:
        """One file of as many rows as the caps allow, and how many those are."""
        request, parts = self._request, self._whole
        size = _size(parts)
        if len(parts) == 1 and rows <= request.row_cap and size <= request.byte_cap:
            return parts[0], rows
        path = request.folder / "joined.parquet"
        kept = min(rows, request.row_cap)
        if size * kept > request.byte_cap * rows:
            kept = int(request.byte_cap * rows / size)
        with assembly(request.folder) as connection:
            self._connection = connection
            names = ", ".join(map(_quoted, parts))
            while True:
                first = f"SELECT * FROM read_parquet([{names}], {_PIECES}) LIMIT {kept}"  # noqa: S608
                connection.execute(f"COPY ({first}) TO {_quoted(path)} (FORMAT parquet, {_ROW_GROUP})")
                size = path.stat().st_size
                if size <= request.byte_cap or kept == 0:
                    return path, kept
                kept = min(kept - 1, int(kept * request.byte_cap / size * 0.95))

    def _all_parts(self) -> list[Path]:
        return sorted(self._parts.glob("*/data_*.parquet"), key=_place)

    def _count(self, parts: list[Path]) -> None:
        with self._metering:
            for part in parts:
                if self._meter is not None and part not in self._counted:
                    sql = f"SELECT num_rows FROM parquet_file_metadata({_quoted(part)})"  # noqa: S608 - our own path
                    [[self._counted[part]]] = self._meter.execute(sql).fetchall()


def _place(part: Path) -> tuple[int, int]:
    """Of a part among all."""
    return int(part.parent.name), int(part.stem.removeprefix("data_"))


def _size(parts: list[Path]) -> int:
    return sum(part.stat().st_size for part in parts)


async def written(
    file: ResultFile,
    write: Callable[[], QueryAnswer],
    watch: Callable[[int, int], None],
    patience_s: float = math.inf,
) -> QueryAnswer:
    """Run ``write`` in a thread to its end, and ``watch`` the file meanwhile. When cancelled, interrupt it.

    A thread that has not ended after ``patience_s`` of that is left to itself; it may be waiting for a network.
    """
    failure: UploaderError | None = None
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope(shield=True) as scope:
            tasks.start_soon(_attend, file, watch, scope, patience_s, name="query result")
            try:
                answer = await to_thread.run_sync(_to_its_end, file, write, abandon_on_cancel=True)
            except UploaderError as error:
                failure = error
        tasks.cancel_scope.cancel()
    await anyio.lowlevel.checkpoint_if_cancelled()
    if failure is not None:
        raise failure
    watch(answer.rows, answer.bytes)
    return answer


def _to_its_end(file: ResultFile, write: Callable[[], QueryAnswer]) -> QueryAnswer:
    try:
        return write()
    finally:
        file.close()
        file.ended = True


async def _attend(
    file: ResultFile, watch: Callable[[int, int], None], writing: anyio.CancelScope, patience_s: float
) -> None:
    """Report progress; once cancelled, interrupt until the thread has ended or patience has."""
    try:
        while True:
            await anyio.sleep(LOOK_S)
            if file.begun:
                watch(*await to_thread.run_sync(file.look))
    finally:
        with anyio.move_on_after(patience_s, shield=True):
            while not file.ended:
                file.interrupt()
                await anyio.sleep(LOOK_S / 10)
        writing.cancel()


def assembly(folder: Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB of its own, with little memory, that writes rows as they come.

    One thread and no care for the order: then rows come out as they went in, and nothing is collected in memory.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": ASSEMBLY_MEMORY,
        "threads": 1,
        "preserve_insertion_order": False,
        "temp_directory": str(folder / "duckdb"),
        "autoinstall_known_extensions": False,
    }
    connection = duckdb.connect(config=settings)
    connection.execute("SET enable_progress_bar = false")
    return connection


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
