"""Dynamic tables: here they are views, which are never behind."""

import re
from collections.abc import Iterator

from tests.fake_snowflake.server.errors import syntax_error
from tests.fake_snowflake.server.options import NAME

_HEAD = re.compile(
    rf"CREATE\s+(?P<replace>OR\s+REPLACE\s+)?(?:TRANSIENT\s+)?DYNAMIC\s+TABLE\s+"
    rf"(?P<unless>IF\s+NOT\s+EXISTS\s+)?(?P<name>{NAME})\s*",
    re.IGNORECASE,
)
# Quoted text, names and comments are passed over; parentheses, commas and words are looked at.
_PIECE = re.compile(
    r"""'(?:[^'\\]|''|\\.)*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|[(),]|[A-Za-z_$][\w$]*|\s+|.""", re.DOTALL
)


def view_of(sql: str) -> str | None:
    """The statement that creates a view instead; None if it does not create a dynamic table."""
    head = _HEAD.match(sql)
    if not head:
        return None
    rest = sql[head.end() :]
    columns = _columns(rest) if rest.startswith("(") else []
    listed = f"({', '.join(columns)})" if columns else ""
    return f"CREATE {head['replace'] or ''}VIEW {head['unless'] or ''}{head['name']} {listed} AS {_query(rest)}"


def _outer(text: str) -> Iterator[tuple[re.Match[str], int]]:
    """The pieces of a text, and how many parentheses are open before each."""
    depth = 0
    for piece in _PIECE.finditer(text):
        if piece[0] == ")":
            depth -= 1
        yield piece, depth
        if piece[0] == "(":
            depth += 1


def _columns(text: str) -> list[str]:
    """The names in a list of columns; their types and comments are the query's and nobody's."""
    names, fresh = [], False
    for piece, depth in _outer(text):
        if depth == 0 and piece[0] == ")":
            break
        if (piece[0] == "(" and depth == 0) or (piece[0] == "," and depth == 1):
            fresh = True
        elif fresh and depth == 1 and re.match(r'["\w$]', piece[0]):
            names.append(piece[0])
            fresh = False
    return names


def _query(text: str) -> str:
    for piece, depth in _outer(text):
        if depth == 0 and piece[0].upper() == "AS":
            return text[piece.end() :]
    raise syntax_error("a dynamic table needs a query")
