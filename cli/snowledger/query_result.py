"""The result of a query, read from its file and written as somebody asked for it.

Rows go through in blocks, so that a result of any size needs little memory. Times are UTC and end in Z.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, get_args

from .errors import CommandError
from .terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import duckdb

Format: TypeAlias = Literal["table", "json", "csv", "parquet"]

FORMATS: tuple[Format, ...] = get_args(Format)

TABLE_ROWS = 100
"""Some screens full. Who wants more wants a file."""

_CELL_CHARACTERS = 200
"""What a table shows of a value; features may have 256 KiB."""

_UNBOUNDED = 100_000
"""Columns of a table that goes into a pipe: every row stays on its line."""

_BLOCK_ROWS = 2048
_MEMORY_LIMIT = "256MB"

_FLOATS = ("FLOAT", "DOUBLE")
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DECIMAL", "UTINYINT", "USMALLINT", "UINTEGER")

_SUFFIXES: Mapping[str, Format] = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
}


def format_of(output: Path | None) -> Format:
    """The format that a file's name asks for; a table when it asks for none."""
    return "table" if output is None else _SUFFIXES.get(output.suffix.lower(), "table")


def check_output(output: Path) -> None:
    """Refuse a file that cannot be written, before anything is run for it.

    Raises:
        CommandError: it is a folder, there is no folder for it, or it may not be written.
    """
    if output.is_dir():
        raise CommandError(f"--output {output} is a folder; name a file")
    if not output.parent.is_dir():
        raise CommandError(f"--output {output}: there is no folder {output.parent}")
    if not os.access(output if output.exists() else output.parent, os.W_OK):
        raise CommandError(f"--output {output} may not be written")


def write_result(artifact: Path, form: Format, output: Path | None) -> None:
    """Write the result to a file, or else to standard output; of a table the first ``TABLE_ROWS`` rows.

    Raises:
        CommandError: the artifact is gone or cannot be read.
        OSError: the output cannot be written.
    """
    if not artifact.is_file():
        raise CommandError(f"the result's file {artifact} is gone; ask again without --max-age")
    if form == "parquet":
        with artifact.open("rb") as source, _opened(output) as target:
            shutil.copyfileobj(source, target)
        return
    import duckdb

    try:
        with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT}) as connection, _opened(output) as target:
            _WRITERS[form](_Rows(connection, artifact), target)
    except duckdb.Error as error:
        raise CommandError(f"cannot read {artifact}: {error}") from error


class _Rows:
    """The rows of a Parquet file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, artifact: Path) -> None:
        self._connection = connection
        # A folder named like k=v must not become a column.
        self._source = "read_parquet($file, hive_partitioning = false)"
        self._file = {"file": str(artifact)}
        described = connection.execute(f"DESCRIBE SELECT * FROM {self._source}", self._file).fetchall()  # noqa: S608
        self.columns: dict[str, str] = {name: kind for name, kind, *_ in described}
        """Names and DuckDB's types."""

    def texts(self, limit: int | None = None) -> Iterator[list[tuple[Any, ...]]]:
        """Blocks of rows, each value a text or None."""
        values = (f"CAST({_value(name, kind)} AS VARCHAR)" for name, kind in self.columns.items())
        return self._blocks(", ".join(values), limit)

    def objects(self) -> Iterator[list[tuple[str]]]:
        """Blocks of rows, each a JSON object."""
        members = (f"{_quoted(name)} := {_json_value(name, kind)}" for name, kind in self.columns.items())
        return self._blocks(f"CAST(to_json(struct_pack({', '.join(members)})) AS VARCHAR)", None)

    def _blocks(self, values: str, limit: int | None) -> Iterator[list[tuple[Any, ...]]]:
        first = "" if limit is None else f" LIMIT {limit}"
        result = self._connection.execute(f"SELECT {values} FROM {self._source}{first}", self._file)  # noqa: S608
        while rows := result.fetchmany(_BLOCK_ROWS):
            yield rows


def _write_json(rows: _Rows, target: BinaryIO) -> None:
    """One object on each line."""
    target.writelines("".join(f"{line}\n" for (line,) in block).encode() for block in rows.objects())


class _Lines:
    """What a CSV writer writes, with line feeds between rows.

    The writer itself must have the other line end: it quotes no carriage return in a value otherwise.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []

    def write(self, line: str) -> int:
        self._lines.append(f"{line[:-2]}\n")
        return len(line)

    def taken(self) -> bytes:
        """What came since the last time."""
        text, self._lines = "".join(self._lines), []
        return text.encode()


def _write_csv(rows: _Rows, target: BinaryIO) -> None:
    """RFC 4180 with a header and line feeds; NULL is empty."""
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow(rows.columns)
    target.write(lines.taken())
    for block in rows.texts():
        writer.writerows(block)
        target.write(lines.taken())


def _write_table(rows: _Rows, target: BinaryIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, kind in rows.columns.items():
        is_number = kind.startswith((*_NUMBERS, *_FLOATS)) and not kind.endswith("]")
        table.add_column(Text(printable(name)), justify="right" if is_number else "left", overflow="fold")
    for block in rows.texts(TABLE_ROWS):
        for row in block:
            table.add_row(*(Text(_cell(value)) for value in row))
    text = io.StringIO()
    on_terminal = target.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else _UNBOUNDED
    Console(file=text, force_terminal=on_terminal, width=width).print(table)
    target.write("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()).encode())


_WRITERS = {"table": _write_table, "json": _write_json, "csv": _write_csv}


def _cell(value: str | None) -> str:
    if value is None:
        return "-"
    return printable(value if len(value) <= _CELL_CHARACTERS else f"{value[:_CELL_CHARACTERS]}…")


def _value(name: str, kind: str) -> str:
    """SQL for a column's values as they are written."""
    column = _quoted(name)
    if not kind.startswith("TIMESTAMP") or kind.endswith("]"):
        return column
    if kind == "TIMESTAMP WITH TIME ZONE":
        column = f"make_timestamp(epoch_us({column}))"
    return f"strftime({column}, '%Y-%m-%dT%H:%M:%S.%fZ')"


def _json_value(name: str, kind: str) -> str:
    """JSON has no NaN and no infinity."""
    value = _value(name, kind)
    return f"CASE WHEN isfinite({value}) THEN {value} END" if kind in _FLOATS else value


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or the file: replaced when all is written, or written as it is when it is a device or a pipe."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if output.exists() and not output.is_file():
        with output.open("wb") as target:
            yield target
        return
    output = output.resolve()  # a link stays one
    draft = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with draft.open("xb") as target:
            yield target
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
