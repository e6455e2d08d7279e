"""Runs statements by fakesnow's translation to DuckDB's SQL."""

import datetime as dt
from collections.abc import Sequence
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.fakes import FakeSnowflakeConnection
from sqlglot import exp
from tests.fake_snowflake.server import results
from tests.fake_snowflake.server.corrections import Facts, corrected
from tests.fake_snowflake.server.results import Outcome

_KINDS: dict[type[exp.Expr], int] = {
    exp.Insert: results.INSERT,
    exp.Update: results.UPDATE,
    exp.Delete: results.DELETE,
    exp.Merge: results.MERGE,
    exp.Create: results.DDL,
    exp.Drop: results.DDL,
    exp.Alter: results.DDL,
    exp.TruncateTable: results.DDL,
    exp.Use: results.SESSION,
    exp.Command: results.SESSION,
    exp.Show: results.SHOW,
    exp.Describe: results.SHOW,
}


def kind_of(expression: exp.Expr) -> int:
    return _KINDS.get(type(expression), results.SELECT)


class Cursor(FakeSnowflakeCursor):
    """Runs one parsed statement at a time."""

    def __init__(self, connection: FakeSnowflakeConnection, facts: Facts) -> None:
        super().__init__(connection, connection._duck_conn)
        self._facts = facts

    def run(self, expression: exp.Expr, parameters: Sequence[Any]) -> Outcome:
        """Run a statement of Snowflake's dialect and fetch its result."""
        kind = kind_of(expression)
        moment = dt.datetime.now(dt.UTC)
        right = corrected(expression, self._facts, self._conn.database, self._conn.schema, moment)
        self.check_db_and_schema(right)
        for statement in self._transform_explode(right):
            transformed = self._transform(statement, list(parameters))
            # As `sessions.parsed` has numbered them.
            numbers = {placeholder.name for placeholder in transformed.find_all(exp.Placeholder)}
            self._execute(transformed, {number: parameters[int(number) - 1] for number in numbers} or None)
        columns = [(name, str(type_)) for name, type_, *_ in self._duck_conn.description]
        affected = self._rowcount if kind in results.DML else None
        return Outcome(kind, _named(expression, columns), self._arrow_table, affected)

    def describe(self, expression: exp.Expr) -> Outcome:
        """The columns of a statement's result."""
        places = len(list(expression.find_all(exp.Placeholder)))
        kind = kind_of(expression)
        blank = expression.transform(lambda node: exp.Null() if isinstance(node, exp.Placeholder) else node)
        if isinstance(blank, exp.Query):
            outcome = self.run(exp.select("*").from_(blank.subquery("_described")).limit(0), ())
            outcome.columns = _named(expression, outcome.columns)
        elif kind in results.DML:
            outcome = Outcome(kind, [("number of rows affected", "BIGINT")], pa.table({"": pa.array([], pa.int64())}))
        else:
            outcome = Outcome.of_rows(kind, ["status"], [])
        outcome.extra = {"numberOfBinds": places, "arrayBindSupported": kind == results.INSERT}
        return outcome

    def _transform(self, expression: exp.Expr, params: list[Any]) -> exp.Expr:
        """As fakesnow, but names that are words of DuckDB's are quoted, and sums keep their type."""
        transformed: exp.Expr = super()._transform(expression, params)
        for name in transformed.find_all(exp.Identifier):
            if name.name.lower() in _keywords():
                name.set("quoted", True)
        # fakesnow casts what is added up to floating point, in case it is text; then integers become fractions.
        for added in list(transformed.find_all(exp.Sum)):
            if isinstance(added.this, exp.TryCast):
                added.set("this", added.this.this)
        return transformed


def _named(expression: exp.Expr, columns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Columns as Snowflake names them: a computed one by its text, in upper case."""
    if not isinstance(expression, exp.Select) or expression.is_star:
        return columns
    return [
        (given if isinstance(shown, exp.Alias | exp.Column) else shown.sql("snowflake").upper(), type_)
        for shown, (given, type_) in zip(expression.selects, columns, strict=True)
    ]


@cache
def _keywords() -> set[str]:
    query = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
    return {row[0] for row in duckdb.execute(query).fetchall()}
