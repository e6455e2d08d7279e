"""Reads the parts of statements that the SQL parser does not understand: names, stages and options."""

import re
from typing import NamedTuple

from tests.fake_snowflake.server.errors import syntax_error

Value = str | list[str] | dict[str, "Value"]

_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[A-Za-z_$][\w$]*)'
NAME = rf"{_IDENTIFIER}(?:\s*\.\s*{_IDENTIFIER}){{0,2}}"
_TOKEN = re.compile(r"\s*(?:(--[^\n]*|/\*.*?\*/)|('(?:[^'\\]|''|\\.)*')|([(),=])|([^\s(),=']+))", re.DOTALL)
_STAGE = re.compile(rf"'?@(~|%?{NAME})(?:/([^\s)';]*))?'?")


class Path(NamedTuple):
    """A stage and the path within it."""

    stage: tuple[str, str, str]
    path: str


def identifier(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.upper()


def qualified(name: str, database: str | None, schema: str | None) -> tuple[str, str, str]:
    """Database, schema and name of an object."""
    parts = [identifier(part) for part in re.findall(_IDENTIFIER, name)]
    full = [*[database, schema][: 3 - len(parts)], *parts]
    if None in full:
        raise syntax_error(f"Cannot perform operation. This session does not have a current database or schema: {name}")
    return str(full[0]), str(full[1]), str(full[2])


def stage_path(text: str, database: str | None, schema: str | None) -> Path:
    """Read a reference like `@db.schema.stage/path`."""
    match = _STAGE.fullmatch(text.strip())
    if not match:
        raise syntax_error(f"invalid stage reference: {text}")
    return Path(qualified(match[1], database, schema), (match[2] or "").lstrip("/"))


def statement_options(text: str) -> dict[str, Value]:
    """Read `NAME = value` pairs; names are upper case, values are text, lists or options in parentheses."""
    tokens = [
        found.group(2) or found.group(3) or found.group(4) for found in _TOKEN.finditer(text) if not found.group(1)
    ]
    options, rest = _options(tokens)
    if rest:
        raise syntax_error(f"unexpected '{rest[0]}'")
    return options


def flag(value: Value | None, default: bool) -> bool:
    return default if value is None else str(value).upper() in {"TRUE", "1"}


def _options(tokens: list[str]) -> tuple[dict[str, Value], list[str]]:
    options: dict[str, Value] = {}
    while tokens and tokens[0] != ")":
        name = tokens.pop(0)
        if name in {",", ";"}:
            continue
        if not tokens or tokens[0] != "=":
            # An option without a value, such as those of CREATE STAGE … DIRECTORY.
            raise syntax_error(f"unexpected '{name}'")
        tokens.pop(0)
        if not tokens:
            raise syntax_error(f"a value is missing after '{name}'")
        if tokens[0] == "(":
            options[name.upper()], tokens = _parentheses(tokens[1:])
        else:
            options[name.upper()] = _text(tokens.pop(0))
    return options, tokens


def _parentheses(tokens: list[str]) -> tuple[Value, list[str]]:
    value: Value
    if len(tokens) > 1 and tokens[1] == "=":
        value, tokens = _options(tokens)
    else:
        end = tokens.index(")") if ")" in tokens else len(tokens)
        value, tokens = [_text(token) for token in tokens[:end] if token != ","], tokens[end:]
    if not tokens:
        raise syntax_error("unexpected '<EOF>'")
    return value, tokens[1:]


def _text(token: str) -> str:
    return re.sub(r"''|\\(.)", lambda found: found[1] or "'", token[1:-1]) if token.startswith("'") else token
