"""Checks the Snowflake SQL that is no file of DDL: ``python tests/project/sql_gate.py`` names what is wrong.

The files of DDL are linted by sqlfluff itself. Here it parses each template as Snowflake gets it, and the statements of
the uploader; and sqlglot, which knows columns, looks every column of a view up in what the view reads, and parses the
DML. (It does not understand most of DDL, and sqlfluff does not know columns.)
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache

import sqlglot
from sqlfluff.core import FluffConfig, Linter
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify

import snowledger_uploader
from snowledger_ddl import SnowflakeNames, Statement, contract, executable, load_templates, statements

_DML = re.compile(r"\s*(SELECT|WITH|INSERT|MERGE|UPDATE|DELETE)\b")
_STATEMENT = re.compile(rf"{_DML.pattern}|\s*(CREATE|COPY|PUT|REMOVE|ALTER|BEGIN|COMMIT|ROLLBACK)\b")

# It warns of DDL that it does not understand.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


def problems() -> Iterator[str]:
    """All that is wrong."""
    for name, template in load_templates().templates.items():
        yield from unparsed(f"template {name}", executable(template, "snowflake"))
    yield from view_problems(statements("snowflake"))
    for place, sql in uploader_statements():
        yield from unparsed(place, sql)
        yield from dml_problems(place, sql)


def unparsed(place: str, sql: str) -> Iterator[str]:
    """What sqlfluff cannot parse."""
    for violation in _linter().parse_string(f"{sql.strip()}\n").violations:
        yield f"{place}: {violation.desc()}"


def view_problems(every: Iterable[Statement]) -> Iterator[str]:
    """Columns that there are not, and views whose columns are not the contract's."""
    names = SnowflakeNames()
    columns = contract("snowflake")
    tables = {name.upper(): dict.fromkeys(map(str.upper, found), "text") for name, found in columns.items()}
    for statement in every:
        if not re.search(r"\bAS\s+(WITH|SELECT|--)", statement.sql):
            continue
        try:
            tree = sqlglot.parse_one(statement.sql, read="snowflake")
            if not isinstance(tree, exp.Create) or not isinstance(tree.this, exp.Schema):
                yield f"{statement.file}: sqlglot does not understand {statement.title}"
                continue
            found = qualify(tree.expression, dialect="snowflake", schema={names.database: {names.schema: tables}})
        except SqlglotError as error:
            yield f"{statement.file}: {error}"
            continue
        declared = [column.name.lower() for column in tree.this.expressions]
        selected = [column.lower() for column in found.named_selects]
        if not declared == selected == list(columns[statement.object]):
            yield f"{statement.file}: {declared} are declared, {selected} are selected"


def uploader_statements() -> Iterator[tuple[str, str]]:
    """What the uploader keeps in constants, by module and name; with a name or value where it fills one in."""
    for info in pkgutil.walk_packages(snowledger_uploader.__path__, "snowledger_uploader."):
        if "_snowflake" in info.name:
            for name, value in vars(importlib.import_module(info.name)).items():
                if isinstance(value, str) and name.isupper() and _STATEMENT.match(value):
                    # sqlfluff knows no question mark in Snowflake.
                    yield f"{info.name}.{name}", re.sub(r"\{\w+\}", "name", value).replace("?", ":value")


def dml_problems(place: str, sql: str) -> Iterator[str]:
    """Why sqlglot does not understand a statement, if it is DML."""
    if _DML.match(sql):
        try:
            if isinstance(sqlglot.parse_one(sql, read="snowflake"), exp.Command):
                yield f"{place}: sqlglot does not understand it"
        except SqlglotError as error:
            yield f"{place}: {error}"


@cache
def _linter() -> Linter:
    return Linter(config=FluffConfig(overrides={"dialect": "snowflake", "templater": "raw"}))


if __name__ == "__main__":
    found = list(problems())
    for problem in found:
        sys.stdout.write(f"{problem}\n")
    sys.exit(bool(found))
