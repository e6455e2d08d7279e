"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_MANY_BYTES = 2**63
"""What a database no longer counts."""

Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="The spool folder. Default: SNOWLEDGER_HOME, else a folder in the user's data directory.",
    ),
]
Customer = Annotated[
    str | None,
    typer.Option(
        "--customer",
        metavar="ID",
        help="Whose events these are. Default: SNOWLEDGER_CUSTOMER, else the name of the user.",
    ),
]
DuckdbPath = Annotated[
    Path | None,
    typer.Option(
        "--duckdb-path",
        metavar="FILE",
        help="The embedded warehouse. Default: SNOWLEDGER_DUCKDB_PATH, else warehouse.duckdb in the spool.",
    ),
]
LogFormat = Annotated[
    str | None,
    typer.Option(
        "--log-format",
        metavar="FORMAT",
        help="console, a line for people, or json. Default: SNOWLEDGER_LOG_FORMAT, else console.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def parse_bytes(text: str) -> int:
    """A number of bytes as somebody writes it: ``1048576`` or ``1MiB``.

    Raises:
        typer.BadParameter: it is none, or less than 1.
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        found = int(TypeAdapter(ByteSize).validate_python(text))
    except (ValidationError, OverflowError):
        found = 0
    if not 0 < found < _MANY_BYTES:
        message = f"{text!a} is not accepted; accepted: bytes from 1, such as 1048576 or 1MiB"
        raise typer.BadParameter(message)
    return found
