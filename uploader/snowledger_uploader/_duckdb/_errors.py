"""What DuckDB's errors mean, for the loader and for whoever asked a query."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import duckdb

from snowledger_uploader._errors import (
    BatchTooLargeError,
    QueryFailedError,
    UploaderError,
    WarehouseRefusedError,
    WarehouseUnavailableError,
)

if TYPE_CHECKING:
    from pathlib import Path

_PASSING_ERRORS = (
    duckdb.OperationalError,
    duckdb.InternalError,
    duckdb.FatalException,
    duckdb.InterruptException,
)
"""Locked, out of memory or disk, interrupted, or a connection that must be opened anew: the next attempt may work."""

_PASSING_FOR_QUERIES = (
    duckdb.IOException,
    duckdb.ConnectionException,
    duckdb.FatalException,
    duckdb.InterruptException,
)
"""Not an internal error: the query may be its cause, and each one costs the loader its connection."""

_STATIC_ERRORS = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ParserException,
    duckdb.OutOfMemoryException,
    duckdb.IOException,
    duckdb.FatalException,
)
"""Their messages quote names of the query, and no data."""

_QUOTED = re.compile(r"""['"(].*['")]|['"(].*$""")
_PATH = re.compile(r"""(?<![\w./])(?:[A-Za-z]:)?[/\\][^\s'":,)]+""")
_PROCESS = re.compile(r"(?i)\bheld in .*?(\(PID \d+\))(?: by user [^\s.]+)?")

_MAX_CHARACTERS = 500
"""Of a message: enough for one sentence and the names in it."""


def load_error(error: duckdb.Error, path: Path) -> UploaderError:
    """What the loader raises instead."""
    text = first_line(error)
    refusal = _refusal(error, path)
    if refusal is not None:
        return WarehouseRefusedError(f"{path} {refusal}: {text}")
    if isinstance(error, duckdb.OutOfMemoryException):
        return BatchTooLargeError(f"{path}: {text}")
    if isinstance(error, _PASSING_ERRORS):
        return WarehouseUnavailableError(f"{path}: {text}")
    return WarehouseRefusedError(f"{path}: {text}")


def query_error(error: duckdb.Error, path: Path, *, shared: bool) -> UploaderError:
    """What a query raises instead, for its owner to read; ``shared`` says whether others use the memory too."""
    text = first_line(error)
    refusal = _refusal(error, path)
    if refusal is not None:
        return WarehouseRefusedError(f"the warehouse's file {refusal}")
    if not isinstance(error, _STATIC_ERRORS):
        # A value that could not be converted may be another customer's: the warehouse is free to convert first, and to
        # ask whose it is afterwards.
        text = _QUOTED.sub("…", text)
    text = public(text)
    if isinstance(error, _PASSING_FOR_QUERIES) or (shared and isinstance(error, duckdb.OutOfMemoryException)):
        return WarehouseUnavailableError(text)
    return QueryFailedError(text)


def public(text: str) -> str:
    """A message as any customer may read it: one line, without paths, not long."""
    line = next(iter(text.replace("\0", "").strip().splitlines()), "")
    line = _PATH.sub("…", _PROCESS.sub(r"held by another program \1", line))
    return line if len(line) <= _MAX_CHARACTERS else f"{line[:_MAX_CHARACTERS]}…"


def first_line(error: duckdb.Error) -> str:
    """The message without its explanations, which may repeat the statement."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _refusal(error: duckdb.Error, path: Path) -> str | None:
    """Why the file cannot be used until somebody acts; None when that is not so."""
    if isinstance(error, duckdb.IOException) and path.exists() and not _is_duckdb(path):
        return "is not a DuckDB database"
    if isinstance(error, duckdb.IOException) and not os.access(path.parent, os.W_OK):
        return "cannot be written"
    return None


def _is_duckdb(path: Path) -> bool:
    """Whether the file has DuckDB's magic bytes (``DUCK`` at offset 8) or is empty."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return True  # unreadable is another problem than not being a database
    return not head or head[8:12] == b"DUCK"
