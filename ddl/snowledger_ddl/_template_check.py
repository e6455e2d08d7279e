"""The rules that a template's statement keeps, checked on what the parser makes of it.

What passes here reads contract views and declared tables and nothing else: no files, no table functions, no catalog, no
settings. What the parser has not understood is never executed, for the text that runs is written from its tree.

Needs sqlglot, so it is imported only where a template is checked or run.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from ._placeholders import placeholders, with_names
from ._template import CONTRACT_VIEWS, Template
from ._template_ctes import cte_of, is_plain, wrong_names
from ._template_functions import called, wrong_call, wrong_column, wrong_member

# It warns of what it cannot do; here that is a problem with file and line, told once.
logging.getLogger("sqlglot").setLevel(logging.ERROR)

_PREFIX = "__bound__"
"""Begins the names that stand for placeholders while a text is parsed.

sqlglot looks from a $ for the end of a $tag$ string. It then counts lines twice, and cannot read ``SELECT $a, ''``.
"""

MAX_JOINS = 12
"""sqlglot takes twice as long for every further JOIN without ON: 12 take a tenth of a second, 24 some minutes."""

_TABLE_PARTS = {"this", "db", "alias", "joins"}
"""What a table in FROM may have: no catalog, no sample, no version of another time, no pivot."""


class Flaw(NamedTuple):
    """What is wrong, and in which line of the text (from 1; 0 when unknown)."""

    line: int
    reason: str


class FlawError(Exception):
    """The text cannot be used at all."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.flaw = Flaw(line, reason)


def parsed(text: str, dialect: str) -> exp.Query:
    """The statement as a tree.

    Raises:
        FlawError: it is not exactly one SELECT.
    """
    named = with_names(text, _PREFIX)
    try:
        joins = [token for token in sqlglot.tokenize(named, read=dialect) if token.token_type is sqlglot.TokenType.JOIN]
        if len(joins) > MAX_JOINS:
            raise FlawError(joins[MAX_JOINS].line, f"a template joins at most {MAX_JOINS} times")
        trees = [tree for tree in sqlglot.parse(named, read=dialect) if tree is not None]
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        raise FlawError(first.get("line") or 0, f"not {dialect} SQL: {first.get('description') or error}") from None
    except SqlglotError as error:
        raise FlawError(0, f"not {dialect} SQL: {error}") from None
    except RecursionError:
        raise FlawError(0, "nested too deeply") from None
    if len(trees) != 1:
        raise FlawError(0, f"a template is exactly one SELECT; here are {len(trees)} statements")
    tree = trees[0]
    if not isinstance(tree, exp.Select | exp.SetOperation):
        raise FlawError(1, "a template is exactly one SELECT, and begins with it or with WITH")
    _restore(tree, text)
    return tree


def flaws(tree: exp.Query, template: Template, text: str) -> list[Flaw]:
    """What is wrong with the statement, in the order of its lines."""
    has_own_texts = bool(template.dialect_texts)
    nodes = tree.walk()
    return sorted({flaw for node in nodes for flaw in _of_node(node, template, text, has_own_texts=has_own_texts)})


def contract_tables(tree: exp.Query) -> list[exp.Table]:
    """Where the statement reads contract views; a CTE of such a name is none."""
    return [table for table in tree.find_all(exp.Table) if _is_view(table)]


def _restore(tree: exp.Query, text: str) -> None:
    """Put placeholders where their names stand. Raises ``FlawError`` where only one of us sees a placeholder."""
    if tree.find(exp.Placeholder, exp.Parameter, exp.SessionParameter):
        raise FlawError(0, "a placeholder is written as $name, and a text as 'text'")
    columns = list(tree.find_all(exp.Column))
    for column in columns:
        if column.name.startswith(_PREFIX) and len(column.parts) == 1:
            column.replace(exp.Placeholder(this=column.name.removeprefix(_PREFIX)))
    seen = {one.name: one.line for one in reversed(placeholders(text))}
    bound = {node.name for node in tree.find_all(exp.Placeholder)}
    elsewhere = {node.name.removeprefix(_PREFIX) for node in tree.find_all(exp.Identifier) if _PREFIX in node.name}
    for name, line in {**dict.fromkeys(bound, 0), **seen}.items():
        if name not in bound or name not in seen or name in elsewhere:
            raise FlawError(
                line, f"${name} is no value there: a placeholder is a value, and a text is written as 'text'"
            )


def _of_node(node: exp.Expr, template: Template, text: str, *, has_own_texts: bool) -> Iterator[Flaw]:
    match node:
        case exp.Table():
            yield from _of_table(node, template, text)
        case exp.From() | exp.Join():
            if not isinstance(node.this, exp.Table | exp.Subquery | exp.Unnest | exp.Values | exp.Lateral):
                yield Flaw(_line(node, text), "FROM takes contract views, declared tables and queries in parentheses")
        case exp.Subquery() | exp.CTE():
            if not isinstance(node.this, exp.Query | exp.Table):
                yield Flaw(_line(node, text), "what stands in parentheses after FROM or AS must be a SELECT")
        case exp.Lateral():
            if not isinstance(node.this, exp.Subquery | exp.Unnest):
                yield Flaw(_line(node, text), "LATERAL takes a query in parentheses or UNNEST")
        case _:
            for reason in _of_part(node, has_own_texts=has_own_texts):
                yield Flaw(_line(node, text, called(node)), reason)


def _of_part(node: exp.Expr, *, has_own_texts: bool) -> Iterator[str]:
    match node:
        case exp.Func():
            yield from wrong_call(node, has_own_texts=has_own_texts)
        case exp.Dot():
            yield from wrong_member(node.expression)
        case exp.Column():
            yield from wrong_member(node.this)
            yield from wrong_column(node)
        case exp.With() | exp.TableAlias():
            yield from wrong_names(node)
        case exp.Into() | exp.Lock() | exp.Command():
            yield "a template only reads"


def _of_table(table: exp.Table, template: Template, text: str) -> Iterator[Flaw]:
    line = _line(table, text)
    if not isinstance(table.this, exp.Identifier):
        yield Flaw(line, f"{table.this.sql(dialect='duckdb')}: table functions are not allowed")
        return
    name = ".".join(part.name for part in table.parts)
    is_declared = all(is_plain(part.name) for part in table.parts) and name.lower() in map(str.lower, template.tables)
    extra = {key for key, value in table.args.items() if value} - _TABLE_PARTS
    if not (is_declared or _is_view(table) or cte_of(table)):
        readable = [*sorted(CONTRACT_VIEWS), *template.tables]
        yield Flaw(line, f"{name} may not be read; may be read: {', '.join(readable)}")
    elif extra or not isinstance(table.parent, exp.From | exp.Join | exp.Subquery):
        yield Flaw(line, f"{name} is read in a way that is not allowed; read it plainly after FROM or JOIN")


def _is_view(table: exp.Table) -> bool:
    plain = isinstance(table.this, exp.Identifier) and not table.args.get("db") and not table.args.get("catalog")
    return plain and table.name.lower() in CONTRACT_VIEWS and cte_of(table) is None


def _line(node: exp.Expr, text: str, name: str = "") -> int:
    """Where a node stands: sqlglot notes it for names and literals; for other nodes, what is within them tells."""
    lines: list[int] = [line for part in node.walk() if (line := part.meta.get("line"))]
    if lines and not name:
        return min(lines)
    match = re.search(rf"(?<!\w){re.escape(name)}[\"`]?\s*\(", text, re.IGNORECASE) if name else None
    return text.count("\n", 0, match.start()) + 1 if match else 0
