"""``snowledger ddl``: the schema of the warehouse."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from . import options
from .errors import CommandError, ExitCode, SettingsError, StartError
from .terminal import count, printable

if TYPE_CHECKING:
    from snowflake.connector import Error

    from snowledger_ddl import Connection, DdlError, SnowflakeNames, Statement
    from snowledger_queue import Spool

    from .settings import Settings

app = typer.Typer(no_args_is_help=True, help="Plan, apply or verify the schema of the warehouse, or print its SQL.")

Warehouse = Annotated[
    str | None,
    typer.Option(
        "--warehouse", metavar="KIND", help="duckdb or snowflake. Default: SNOWLEDGER_WAREHOUSE, else duckdb."
    ),
]
SnowConnection = Annotated[
    str | None,
    typer.Option(
        "--snow-connection",
        metavar="NAME",
        help="The entry of connections.toml to log in with. Default: SNOW_CONNECTION.",
    ),
]

_NO_SUCH_CONNECTION = 7
"""What Snowflake's driver calls an entry that connections.toml does not have."""

_LACKING = frozenset({2003, 2043, 3001})
"""Snowflake's codes for what the role may not do, or may not even see."""

_LOGIN_S = 60
"""A login that waits for a browser takes as long as its user."""

_STATEMENT_S = 900
"""The first filling of EVENTS reads all that was loaded."""


@app.command("plan")
def plan(
    home: options.Home = None,
    warehouse: Warehouse = None,
    duckdb_path: options.DuckdbPath = None,
    snow_connection: SnowConnection = None,
) -> None:
    """Show what apply would run, in order, and why. Changes nothing.

    For Snowflake without a connection it shows what an account gets that has nothing yet.

    Try it: snowledger ddl plan
    """
    from snowledger_ddl import pending

    settings = _settings(home, warehouse, duckdb_path, snow_connection)
    if settings.warehouse == "snowflake" and settings.snow_connection is None:
        typer.echo("no connection is named (SNOW_CONNECTION), so nothing is taken to be there", err=True)
        todo = pending(None, settings.warehouse, _names(settings))
    else:
        with _opened(settings) as connection, _explained():
            todo = pending(connection, settings.warehouse, _names(settings))
    _show(todo)


@app.command("apply")
def apply(
    home: options.Home = None,
    warehouse: Warehouse = None,
    duckdb_path: options.DuckdbPath = None,
    snow_connection: SnowConnection = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would run, as plan does.")] = False,
) -> None:
    """Bring the schema up to date; run it again as often as you like.

    It stops at the first statement that fails. On DuckDB nothing is changed then; on Snowflake what ran before
    stays, and the next apply goes on there. The role of the Snowflake connection must be allowed to make roles, a
    warehouse and a database. An uploader brings a DuckDB file up to date by itself.

    Try it: snowledger ddl apply --dry-run
    """
    from snowledger_ddl import apply as run
    from snowledger_queue import open_spool

    if dry_run:
        plan(home, warehouse, duckdb_path, snow_connection)
        return
    settings = _settings(home, warehouse, duckdb_path, snow_connection)
    spool = open_spool(settings.home)
    ran: list[Statement] = []

    def hear(statement: Statement) -> None:
        if not ran or ran[-1].file != statement.file:
            typer.echo(f"{statement.file}  {statement.reason}")
        ran.append(statement)

    with _opened(settings, write=True) as connection:
        assert connection is not None  # noqa: S101 - by write
        try:
            with _explained():
                run(connection, settings.warehouse, _names(settings), ran=hear)
        except CommandError:
            if settings.warehouse == "snowflake":
                _record(spool, settings.warehouse, ran)
            raise
    _record(spool, settings.warehouse, ran)
    typer.echo(f"{count(len(ran), 'statement')} ran" if ran else "up to date, nothing to do")


@app.command("verify")
def verify(
    home: options.Home = None,
    warehouse: Warehouse = None,
    duckdb_path: options.DuckdbPath = None,
    snow_connection: SnowConnection = None,
) -> None:
    """Compare the warehouse with the contract: every object, every column and its type.

    Each difference is a line; exit code 1 when there is one.

    Try it: snowledger ddl verify
    """
    from snowledger_ddl import verify as compare

    settings = _settings(home, warehouse, duckdb_path, snow_connection)
    with _opened(settings) as connection, _explained():
        problems = compare(connection, settings.warehouse, _names(settings))
    for problem in problems:
        typer.echo(printable(problem))
    if problems:
        typer.echo(f"{count(len(problems), 'difference')}; see: snowledger ddl plan", err=True)
        raise typer.Exit(ExitCode.FAILED)
    typer.echo("every object and column is there, with its type")


@app.command("render")
def render(home: options.Home = None, warehouse: Warehouse = None) -> None:
    """Print the SQL, with the names of your settings, for another client to run. Connects to nothing.

    Try it: snowledger ddl render --warehouse snowflake > schema.sql && snow sql -f schema.sql
    """
    from snowledger_ddl import render as script

    settings = _settings(home, warehouse, None, None)
    typer.echo(script(settings.warehouse, _names(settings)), nl=False)


def _settings(
    home: Path | None, warehouse: str | None, duckdb_path: Path | None, snow_connection: str | None
) -> Settings:
    from .settings import load_settings

    return load_settings(home=home, warehouse=warehouse, duckdb_path=duckdb_path, snow_connection=snow_connection)


def _names(settings: Settings) -> SnowflakeNames:
    from snowledger_ddl import SnowflakeNames

    return SnowflakeNames(
        database=settings.snowflake_database,
        schema=settings.snowflake_schema,
        warehouse=settings.snowflake_warehouse,
        loader_role=settings.snowflake_loader_role,
        reader_role=settings.snowflake_reader_role,
        loader_user=settings.snowflake_loader_user,
        search_optimization=settings.snowflake_search_optimization,
    )


@contextmanager
def _opened(settings: Settings, *, write: bool = False) -> Iterator[Connection | None]:
    """A connection to the warehouse; None for a DuckDB file that is not there, unless it is to be written."""
    if settings.warehouse == "snowflake":
        with _snowflake(settings) as connection:
            yield connection
    elif write or settings.duckdb_path.exists():
        with _duckdb(settings.duckdb_path, write=write) as connection:
            yield connection
    else:
        yield None


@contextmanager
def _duckdb(path: Path, *, write: bool) -> Iterator[Connection]:
    import duckdb

    umask = os.umask(0o077)  # a new file is as private as the spool
    try:
        connection = duckdb.connect(path, read_only=not write)
    except duckdb.Error as error:
        hint = "; an uploader that works on it lets go when it is idle" if path.exists() else ""
        raise CommandError(f"cannot open {path}{hint}: {error}") from error
    finally:
        os.umask(umask)
    with connection:
        yield connection


@contextmanager
def _snowflake(settings: Settings) -> Iterator[Connection]:
    name = settings.snow_connection
    if name is None:
        raise SettingsError(
            "no connection to Snowflake is named; set SNOW_CONNECTION to an entry of connections.toml, "
            "or use --snow-connection"
        )
    import secrets

    # The connector asks three clouds' metadata services where it runs, for statistics of its own.
    os.environ.setdefault("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")
    from snowflake import connector

    tag = f"cdesk_{secrets.token_hex(4)}"
    try:
        connection = connector.connect(
            connection_name=name,
            login_timeout=_LOGIN_S,
            # What it may do shall be the role's that owns what is made, whatever other roles the user has.
            secondary_roles="NONE",
            session_parameters={"QUERY_TAG": tag, "STATEMENT_TIMEOUT_IN_SECONDS": _STATEMENT_S},
            enable_server_session_keep_alive_auto_detection=False,
        )
    except connector.Error as error:
        # The connector's own words may quote the line with the password.
        from snowledger_uploader import redacted

        kind = StartError if error.errno == _NO_SUCH_CONNECTION else CommandError
        raise kind(f"cannot connect to Snowflake with connection {name!a}: {redacted(error)}") from error
    with connection, connection.cursor() as cursor:
        yield cursor


@contextmanager
def _explained() -> Iterator[None]:
    """Say which statement failed and what to do, without its text and without all that a driver says."""
    from snowledger_ddl import DdlError

    try:
        yield
    except DdlError as error:
        failed = error.statement
        where = "" if failed is None else f"{failed.file}: {failed.title} failed: "
        raise CommandError(where + _reason(error)) from error


def _reason(error: DdlError) -> str:
    """What the driver says. Snowflake's goes on with the statement, and may name what nobody else should read."""
    cause = cast("Error", error.__cause__)
    code = getattr(cause, "errno", None)
    if code is None:  # DuckDB's, or our own
        return str(error if error.statement is None else cause)
    from snowledger_uploader import redacted

    reason = redacted(cause)
    if code in _LACKING:
        reason += "; log in with a role that may, see docs/snowflake.md"
    if error.statement is None:
        return f"cannot read what Snowflake holds: {reason}; nothing was changed, try again once that is mended"
    return f"{reason}; what ran before it stays: run snowledger ddl apply again once that is mended"


def _show(todo: Sequence[Statement]) -> None:
    file = ""
    for statement in todo:
        if statement.file != file:
            file = statement.file
            typer.echo(f"{file}  {statement.reason}")
        typer.echo(f"    {statement.title}")
    typer.echo(f"{count(len(todo), 'statement')} would run" if todo else "up to date, nothing would run")


def _record(spool: Spool, warehouse: str, ran: Sequence[Statement]) -> None:
    """Leave the versions that were applied in the stream."""
    from snowledger_ddl import applied_features

    from .own_events import log_own_event

    features = applied_features(warehouse, ran)
    if features["objects"]:
        log_own_event(spool, "the schema was applied", "ddl", "cdesk.schema_applied", features)
