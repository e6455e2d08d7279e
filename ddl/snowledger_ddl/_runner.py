"""Bring a database up to date with the SQL files, and leave it alone when it is."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

from ._errors import DdlError
from ._statements import Statement, dialect_folder, statements


class Rows(Protocol):
    """What a query answers."""

    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """What the runner needs of a database: a DuckDB connection has it, and so does a Snowflake cursor."""

    def execute(self, sql: str, /) -> Rows | None: ...


def pending(connection: Connection, dialect: str) -> tuple[Statement, ...]:
    """The statements that ``apply`` would run: those of objects that are absent or were made by another text.

    Only reads. An object altered by hand, with its comment left as it was, counts as up to date.

    Raises:
        DdlError: there is no such dialect, or the catalog cannot be read.
    """
    catalog = (dialect_folder(dialect) / "applied.sql").read_text(encoding="utf-8")
    try:
        rows = connection.execute(catalog)
        found = {name: comment or "" for name, comment in (rows.fetchall() if rows else [])}
    except Exception as error:
        raise DdlError(f"{dialect}/applied.sql: cannot read what the database holds: {error}") from error

    every = statements(dialect)
    records_version = {statement.object for statement in every if statement.version in statement.sql}
    return tuple(
        statement
        for statement in every
        if statement.object not in found
        or (statement.object in records_version and statement.version not in found[statement.object])
    )


def apply(connection: Connection, dialect: str) -> tuple[Statement, ...]:
    """Run what is pending in one transaction and return it; nothing is written when nothing is pending.

    That matters for DuckDB, where even the same comment again is a write to the file. The connection must not
    be inside a transaction. On any error everything is rolled back, as far as the database can
    (Snowflake commits each statement; the next call takes up where this one stopped).

    Raises:
        DdlError: there is no such dialect, or a statement failed; the message names its file and text.
    """
    todo = pending(connection, dialect)
    if not todo:
        return ()
    try:
        connection.execute("BEGIN TRANSACTION")
    except Exception as error:
        raise DdlError(f"cannot begin a transaction: {error}") from error
    try:
        for statement in todo:
            _run(connection, statement)
        connection.execute("COMMIT")
    except BaseException as error:
        with suppress(Exception):  # the first error is the one to report
            connection.execute("ROLLBACK")
        if isinstance(error, DdlError) or not isinstance(error, Exception):
            raise
        raise DdlError(f"cannot commit the schema: {error}") from error
    return todo


def _run(connection: Connection, statement: Statement) -> None:
    try:
        connection.execute(statement.sql)
    except Exception as error:
        raise DdlError(f"{statement.file}: {error}\n{statement.sql}", statement) from error
