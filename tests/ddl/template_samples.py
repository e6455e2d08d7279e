"""Templates in a folder, and their answers on a real DuckDB file or on the fake Snowflake."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from tests.ddl.ddl_samples import START, Row, event, stamp
from tests.ddl.ledgers import SnowflakeLedger

from snowledger_ddl import (
    Catalogue,
    Template,
    TemplateProblem,
    bound_parameters,
    check_templates,
    checked_parameters,
    executable,
    load_templates,
    reserved_parameters,
)

HOUR, DAY = 3600, 86400
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


def problems(template: Template) -> list[TemplateProblem]:
    return list(check_templates(Catalogue({template.name: template}, ())))


def theirs(folder: Path) -> Catalogue:
    """What a folder adds to our templates."""
    ours = load_templates().templates
    catalogue = load_templates(folder)
    added = {name: one for name, one in catalogue.templates.items() if one != ours.get(name)}
    return Catalogue(added, catalogue.problems)


def answer(
    connection: duckdb.DuckDBPyConnection | SnowflakeLedger,
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
    dialect = "snowflake" if isinstance(connection, SnowflakeLedger) else "duckdb"
    bound |= reserved_parameters(template, customer=customer, customers=allowed, now=NOW, dialect=dialect)
    if isinstance(connection, SnowflakeLedger):
        return connection.ask(executable(template, dialect, row_cap=row_cap), bound)
    cursor = connection.execute(executable(template, row_cap=row_cap), bound)
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def logged(name: str, seconds: float = 0, *, customer: str = "acme", session: str = "s1", **features: Any) -> Row:
    return event(
        activity=f"cdesk.{name}", ts=stamp(seconds), customer=customer, _session_id=session, feature_json=features
    )
