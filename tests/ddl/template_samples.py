"""Templates in a folder, and their answers on a real DuckDB file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import duckdb
from tests.ddl.ddl_samples import START, Row

from snowledger_ddl import (
    Catalogue,
    Template,
    bound_parameters,
    checked_parameters,
    executable,
    load_templates,
    reserved_parameters,
)

NOW = (START + timedelta(hours=1)).replace(tzinfo=UTC)

SINCE = """\
[params.since]
type = "interval"
default = "7d"
description = "How far back to look."
"""


def content(body: str, matter: str = "", *, answers: str = 'answers = "What is asked."\n') -> str:
    lines = [f"-- {line}".rstrip() for line in (answers + matter).splitlines()]
    return "\n".join(["-- ---", *lines, "-- ---", body, ""])


def write(folder: Path, body: str, matter: str = "", name: str = "mine") -> Path:
    path = folder / f"{name}.sql"
    path.write_text(content(body, matter), encoding="utf-8")
    return path


def loaded(folder: Path, body: str, matter: str = "", name: str = "mine") -> Template:
    write(folder, body, matter, name)
    catalogue = load_templates(folder)
    assert catalogue.problems == ()
    return catalogue.templates[name]


def theirs(folder: Path) -> Catalogue:
    """What a folder adds to our templates."""
    ours = load_templates().templates
    catalogue = load_templates(folder)
    added = {name: one for name, one in catalogue.templates.items() if one != ours.get(name)}
    return Catalogue(added, catalogue.problems)


def answer(
    connection: duckdb.DuckDBPyConnection,
    template: Template | str,
    /,
    *,
    customer: str = "acme",
    customers: Sequence[str] | None = None,
    row_cap: int | None = None,
    **params: Any,
) -> list[Row]:
    """The rows that the customer gets, an hour after START."""
    template = load_templates().templates[template] if isinstance(template, str) else template
    allowed = [customer] if customers is None else customers
    bound = bound_parameters(template, checked_parameters(template, params))
    bound |= reserved_parameters(template, customer=customer, customers=allowed, now=NOW)
    cursor = connection.execute(executable(template, row_cap=row_cap), bound)
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
