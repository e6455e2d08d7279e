"""Bring a database up to date with the SQL files, and leave it alone when it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any, Protocol

from ._contract import contract
from ._errors import DdlError
from ._names import SnowflakeNames
from ._statements import Statement, catalog_queries, statements

_ABSENT = frozenset({2003, 2043})
"""What Snowflake's driver calls an object that is not there, or that this role may not see."""


class Rows(Protocol):
    """What a query answers."""

    @property
    def description(self) -> Sequence[Any] | None: ...

    def fetchall(self) -> Sequence[Any]: ...


class Connection(Protocol):
    """What the runner needs of a database: a DuckDB connection has it, and so does a Snowflake cursor."""

    def execute(self, sql: str, /) -> Rows | None: ...


def pending(connection: Connection | None, dialect: str, names: SnowflakeNames | None = None) -> tuple[Statement, ...]:
    """The statements that ``apply`` would run, each with its reason: its object is absent or was made by another text.

    Only reads; without a connection, nothing is there. An object altered by hand, with its comment left as it was,
    counts as up to date.

    Raises:
        DdlError: there is no such dialect, or the catalog cannot be read.
    """
    found: dict[str, str] = {}
    for name, comment in _read(connection, dialect, "applied.sql", names, ("name", "comment")):
        # A warehouse and a schema may have one name.
        found[name.lower()] = found.get(name.lower(), "") + (comment or "")
    every = statements(dialect, names)
    records_version = {statement.object for statement in every if statement.version in statement.sql}
    todo = []
    for statement in every:
        comment = found.get(statement.object.lower())
        if comment is None:
            todo.append(replace(statement, reason="absent"))
        elif statement.object in records_version and statement.version not in comment:
            todo.append(replace(statement, reason="made by another version"))
    return tuple(todo)


def apply(
    connection: Connection,
    dialect: str,
    names: SnowflakeNames | None = None,
    *,
    ran: Callable[[Statement], None] = lambda _statement: None,
) -> tuple[Statement, ...]:
    """Run what is pending, up to the first failure, and return it; nothing is written when nothing is pending.

    That matters for DuckDB, where even the same comment again is a write to the file. There it is one transaction,
    which is rolled back on any error; the connection must not be inside one. Snowflake commits each statement, and the
    next call takes up where this one stopped. ``ran`` hears of each statement that ran.

    Raises:
        DdlError: there is no such dialect, or a statement failed; the message names its file and text.
    """
    todo = pending(connection, dialect, names)
    if todo:
        with _transaction(connection) if dialect == "duckdb" else nullcontext():
            for statement in todo:
                _run(connection, statement)
                ran(statement)
    return todo


def verify(connection: Connection | None, dialect: str, names: SnowflakeNames | None = None) -> tuple[str, ...]:
    """What keeps the database from being the contract's, a line each; empty when it is. Only reads.

    Raises:
        DdlError: there is no such dialect, or the catalog cannot be read.
    """
    reasons = {statement.name: statement.reason for statement in pending(connection, dialect, names)}
    problems = [f"{name}: {reason}" for name, reason in reasons.items()]
    found: dict[tuple[str, str], str] = {}
    for name, column, kind in _read(
        connection, dialect, "columns.sql", names, ("table_name", "column_name", "data_type")
    ):
        found[name.lower(), column.lower()] = json.loads(kind)["type"] if kind.startswith("{") else kind
    for name, columns in contract(dialect).items():
        if reasons.get(name) == "absent":
            continue
        for column, wanted in columns.items():
            kind = found.get((name, column))
            if kind is None:
                problems.append(f"{name}.{column}: absent; it should be {wanted}")
            elif kind != wanted:
                problems.append(f"{name}.{column}: {kind}; it should be {wanted}")
    return tuple(problems)


def render(dialect: str, names: SnowflakeNames | None = None) -> str:
    """All statements as one script, for another client to run.

    Raises:
        DdlError: there is no such dialect.
    """
    every = statements(dialect, names)
    parts = [f"-- {every[0].file.partition('/')[0]}: the warehouse contract; running it again changes nothing."]
    file = ""
    for statement in every:
        if statement.file != file:
            file = statement.file
            parts.append(f"-- {file}")
        parts.append(f"{statement.sql};")
    return "\n\n".join(parts) + "\n"


def applied_features(dialect: str, ran: Sequence[Statement]) -> dict[str, object]:
    """Features of the event ``cdesk.schema_applied``: the version of each object that these statements completed."""
    last = {statement.file: statement for statement in ran}
    complete = [statement for statement in last.values() if statement.version in statement.sql]
    return {"warehouse": dialect, "objects": {statement.name: statement.version for statement in complete}}


def _read(
    connection: Connection | None, dialect: str, file: str, names: SnowflakeNames | None, columns: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """These columns of what the file's queries answer; nothing without a connection."""
    if connection is None:
        return
    for sql in catalog_queries(dialect, file, names):
        try:
            rows = connection.execute(sql)
            described = (rows and rows.description) or ()
            found = rows.fetchall() if rows else ()
        except Exception as error:
            if getattr(error, "errno", None) in _ABSENT:
                continue
            raise DdlError(f"{dialect}/{file}: cannot read what the database holds: {error}") from error
        position = {str(column[0]).lower(): place for place, column in enumerate(described)}
        if position.keys() >= set(columns):
            for row in found:
                yield tuple(row[position[column]] for column in columns)


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    try:
        connection.execute("BEGIN TRANSACTION")
    except Exception as error:
        raise DdlError(f"cannot begin a transaction: {error}") from error
    try:
        yield
        connection.execute("COMMIT")
    except BaseException as error:
        with suppress(Exception):  # the first error is the one to report
            connection.execute("ROLLBACK")
        if isinstance(error, DdlError) or not isinstance(error, Exception):
            raise
        raise DdlError(f"cannot commit the schema: {error}") from error


def _run(connection: Connection, statement: Statement) -> None:
    try:
        connection.execute(statement.sql)
    except Exception as error:
        raise DdlError(f"{statement.file}: {error}\n{statement.sql}", statement) from error
