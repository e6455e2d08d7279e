"""A session: its parameters, its transaction, and the statements it runs one after another."""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import sqlglot
from fakesnow.instance import FakeSnow
from sqlglot import TokenType, exp
from tests.fake_snowflake.server import results
from tests.fake_snowflake.server.corrections import Facts
from tests.fake_snowflake.server.cursor import Cursor, kind_of
from tests.fake_snowflake.server.errors import SnowflakeError, cancelled, syntax_error
from tests.fake_snowflake.server.options import Path, qualified, stage_path
from tests.fake_snowflake.server.results import Outcome
from tests.fake_snowflake.server.transactions import Transactions

if TYPE_CHECKING:
    from tests.fake_snowflake.server.account import Account
    from tests.fake_snowflake.server.jobs import Job

T = TypeVar("T")

_numbers = itertools.count(1)


class Session:
    """Made by a login. Everything but `lock`, `token` and `stop` is used by one thread at a time."""

    def __init__(
        self, account: "Account", engine: FakeSnow, user: str, names: dict[str, str | None], parameters: dict[str, str]
    ) -> None:
        self.account = account
        self.number = next(_numbers)
        self.token = secrets.token_urlsafe()
        self.master_token = secrets.token_urlsafe()
        self.parameters = parameters
        self.facts = Facts(user, self.number, names["role"], names["warehouse"])
        self.connection = engine.connect(names["database"], names["schema"])
        self.duck = self.connection._duck_conn
        # Reads staged files, so that a broken one does not touch the transaction.
        self.reader = self.duck.cursor()
        self.transactions = Transactions(self.duck, self._shield)
        self.lock = asyncio.Lock()
        self.job: Job | None = None

    @property
    def database(self) -> str | None:
        database: str | None = self.connection.database
        return database

    @property
    def schema(self) -> str | None:
        schema: str | None = self.connection.schema
        return schema

    def renew_token(self) -> None:
        self.token = secrets.token_urlsafe()

    def names(self, name: str) -> tuple[str, str, str]:
        return qualified(name, self.database, self.schema)

    def stage(self, text: str) -> Path:
        return stage_path(text, self.database, self.schema)

    def setting(self, name: str) -> str | None:
        """A parameter of the running statement, or of the session."""
        own = self.job.parameters if self.job else {}
        value = own.get(name, self.parameters.get(name))
        return None if value is None else str(value)

    def execute(self, sql: str, rows: Sequence[Sequence[Any]] = ((),)) -> Outcome:
        """Run a statement of one of the kinds that fakesnow translates, once for each row of bound values.

        Raises:
            SnowflakeError: the statement is none, or several.
            Exception: what fakesnow and DuckDB raise.
        """
        expression = parsed(sql)
        kind = kind_of(expression)

        def step() -> Outcome:
            outcomes = [Cursor(self.connection, self.facts).run(expression, row) for row in rows]
            if len(outcomes) == 1:
                return outcomes[0]
            total = sum(outcome.affected or 0 for outcome in outcomes)
            whole = Outcome.of_rows(kind, [outcomes[0].columns[0][0]], [[total]])
            whole.affected = total
            return whole

        # fakesnow does a MERGE in parts that cannot be one transaction of DuckDB's.
        if kind in results.DML - {results.MERGE}:
            return self.write(step)
        if kind == results.DDL:
            return self.define(step)
        return self.transactions.read(step)

    def run(self, sql: str) -> Outcome:
        """Run a statement as a part of another."""
        return Cursor(self.connection, self.facts).run(parsed(sql), [])

    def write(self, step: Callable[[], T]) -> T:
        """Do a step that changes rows."""
        if (self.setting("AUTOCOMMIT") or "true").lower() == "false":
            self.transactions.begin()
        return self.transactions.write(step)

    def define(self, step: Callable[[], T]) -> T:
        """Do a step that changes objects: it ends the open transaction."""
        self.transactions.commit()
        return step()

    def _shield(self) -> None:
        if self.job:
            self.job.interruptible = False

    def interrupt(self) -> None:
        self.duck.interrupt()
        self.reader.interrupt()

    async def close(self) -> None:
        """End the session; an open transaction is rolled back."""
        if self.job:
            self.job.stop(cancelled())
        async with self.lock:
            self.reader.close()
            self.duck.close()


def parsed(sql: str) -> exp.Expr:
    """Read one statement.

    Raises:
        SnowflakeError: there is none or several.
        ParseError: it is not understood.
    """
    statements = [
        found
        for found in sqlglot.parse(_numbered(sql), read="snowflake")
        if found and not isinstance(found, exp.Semicolon)
    ]
    if not statements:
        raise SnowflakeError(900, "SQL compilation error:\nEmpty SQL statement.", "42601")
    if len(statements) > 1:
        raise SnowflakeError(
            8, f"Actual statement count {len(statements)} did not match the desired statement count 1.", "0A000"
        )
    statement = statements[0]
    if not isinstance(statement, exp.Expr):
        raise syntax_error("unexpected statement")
    return statement


def _numbered(sql: str) -> str:
    """The statement with `:1`, `:2` … for its question marks: the translation may change their order, or repeat one."""
    pieces, end = [], 0
    marks = (token for token in sqlglot.tokenize(sql, read="snowflake") if token.token_type == TokenType.PLACEHOLDER)
    for number, mark in enumerate(marks, 1):
        pieces += [sql[end : mark.start], f":{number}"]
        end = mark.end + 1
    return "".join([*pieces, sql[end:]])
