"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
