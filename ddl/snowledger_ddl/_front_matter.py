"""A template file's front matter: TOML in comments before the statement, read and checked without a SQL parser."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from ._errors import ParameterError
from ._parameters import checked_parameters
from ._placeholders import placeholders
from ._template import CONTRACT_VIEWS, RESERVED, Parameter, Template, shortened
from ._values import KINDS, checked_value, item_of

_FENCE = "-- ---"
_SCOPES = ("own", "allowed")

_ROW_LIMIT = 1000
_MAX_ROW_LIMIT = 10_000_000
"""A row limit unless the file says otherwise, and the largest one. The runner has a cap of its own."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*\.)?[A-Za-z_][A-Za-z0-9_]*")
_AT_LINE = re.compile(r"\(at (?:line (\d+), column \d+|end of document)\)$")
_HEADER = re.compile(r"\s*\[\s*([\w.\s\"'-]+)]")

_HIDDEN_SCHEMAS = ("activities", "information_schema", "main", "pg_catalog", "system", "temp")
"""Schemas whose tables hold what is not the customer's."""

_NO_TABLE = re.compile(
    r"(.*\.)?(duckdb|pg|sqlite|pragma)_.*"
    r"|.*\.(arrow|avro|csv|db|duckdb|gz|jsonl?|ndjson|parquet|sqlite3?|tsv|txt|xlsx|zst)"
)
"""Tables of the catalog, and names that DuckDB takes for files."""

_HIDDEN_TABLES = {"raw_events", "_ingest_ids", "_landing", "events_live", *CONTRACT_VIEWS}
"""Names that the contract and its loader have, whose schema may have any name on Snowflake."""

_KEYS = {"answers", "scope", "row_limit", "example", "tables", "override", "params"}
_COMMON_KEYS = {"type", "default", "description"}


class FrontMatterError(ValueError):
    """A file is no template: the reason, and its line in the file."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(shortened(reason))
        self.line = line


def is_name(name: str) -> bool:
    """Whether a template or a parameter may have this name."""
    return _NAME.fullmatch(name) is not None


def read_template(
    name: str, content: str, source: str, dialect_texts: Mapping[str, str], database: str | None = None
) -> Template:
    """The template that a file holds. ``database`` as ``load_templates``.

    Raises:
        FrontMatterError: the file holds none, or one that contradicts itself.
    """
    lines = content.split("\n")
    matter = _front_matter(lines)
    return _Reader(matter, database).template(name, _statement(lines, len(matter) + 2), source, dialect_texts)


def _front_matter(lines: Sequence[str]) -> list[str]:
    """The lines between the fences without their ``-- ``; the first is line 2 of the file."""
    if lines[0].rstrip() != _FENCE:
        raise FrontMatterError(1, f"the file must begin with a front matter between two lines {_FENCE!r}")
    matter: list[str] = []
    for number, line in enumerate(lines[1:], 2):
        if line.rstrip() == _FENCE:
            return matter
        if not (line.startswith("-- ") or line.rstrip() == "--"):
            raise FrontMatterError(number, f"every line of the front matter begins with '-- ', up to {_FENCE!r}")
        matter.append(line[3:])
    raise FrontMatterError(1, f"the front matter has no end: a line {_FENCE!r}")


def _statement(lines: Sequence[str], first: int) -> tuple[str, int]:
    """The statement after the front matter, stripped, and the line in which it begins."""
    text = "\n".join(lines[first:]).strip()
    if not text:
        raise FrontMatterError(first, "there is no statement after the front matter")
    while not lines[first].strip():
        first += 1
    return text, first + 1


class _Reader:
    """Reads one front matter; a problem is raised with the line of the key that it is about."""

    def __init__(self, matter: Sequence[str], database: str | None) -> None:
        self._matter = matter
        self._database = database
        try:
            self._keys = tomllib.loads("\n".join(matter))
        except tomllib.TOMLDecodeError as error:
            reason = str(error)
            at = _AT_LINE.search(reason)
            line = int(at[1]) if at and at[1] else len(matter)
            raise FrontMatterError(line + 1, f"not TOML: {_AT_LINE.sub('', reason).strip()}") from None
        except RecursionError:
            raise FrontMatterError(1, "not TOML: nested too deeply") from None
        except ValueError:  # all that int() refuses of what the grammar takes
            raise FrontMatterError(1, "not TOML: a whole number of thousands of digits") from None

    def template(
        self, name: str, statement: tuple[str, int], source: str, dialect_texts: Mapping[str, str]
    ) -> Template:
        keys = self._keys
        self._known((), keys, _KEYS)
        text, text_line = statement
        template = Template(
            name=name,
            answers=self._sentence((), keys, "answers"),
            scope=self._one_of((), keys, "scope", _SCOPES, default="own"),
            row_limit=self._count((), keys, "row_limit", _MAX_ROW_LIMIT) or _ROW_LIMIT,
            parameters=self._parameters(),
            example=_json(self._typed((), keys, "example", dict, {})),
            tables=self._tables(),
            override=self._typed((), keys, "override", bool, default=False),
            text=text,
            text_line=text_line,
            source=source,
            dialect_texts=dialect_texts,
        )
        self._check_placeholders(template, text, text_line, "")
        for dialect, other in dialect_texts.items():
            self._check_placeholders(template, other, 0, f"{name}.{dialect}.sql: ")
        try:
            checked_parameters(template, template.example)
        except ParameterError as error:
            raise self._wrong((), "example", f"example: {error}") from None
        return template

    def _parameters(self) -> tuple[Parameter, ...]:
        tables = self._typed((), self._keys, "params", dict, {})
        return tuple(self._parameter(name, table) for name, table in tables.items())

    def _parameter(self, name: str, table: object) -> Parameter:
        path = ("params", name)
        if not isinstance(table, dict):
            raise self._wrong(("params",), name, f"{name} is no table")
        if not is_name(name):
            raise self._wrong(path, None, "a parameter's name is made of lower-case letters, digits and _")
        if name in RESERVED:
            raise self._wrong(path, None, f"${name} is bound by the query runner and cannot be a parameter")
        kind = self._one_of(path, table, "type", (*KINDS, "list"))
        is_list = kind == "list"
        of = self._one_of(path, table, "items", tuple(KINDS)) if is_list else kind
        own_keys = {"items", "max_items"} if is_list else set()
        own_keys |= {"min", "max"} if KINDS[of].has_bounds else set()
        own_keys |= {"string": {"max_length"}, "enum": {"values"}}.get(of, set())
        self._known(path, table, _COMMON_KEYS | own_keys)
        parameter = Parameter(
            name=name,
            type=kind,
            description=self._sentence(path, table, "description"),
            items=of if is_list else None,
            required="default" not in table,
            values=self._values(path, table) if of == "enum" else (),
            max_length=self._count(path, table, "max_length", 100_000),
            max_items=self._count(path, table, "max_items", 10_000),
        )
        return self._with_values(path, table, parameter)

    def _with_values(self, path: tuple[str, ...], table: Mapping[str, object], parameter: Parameter) -> Parameter:
        """The parameter with its bounds and its default, which must lie within them."""
        one = item_of(parameter) if parameter.type == "list" else parameter
        low = self._checked(path, table, "min", one)
        high = self._checked(path, table, "max", one)
        if low is not None and high is not None and low > high:
            raise self._wrong(path, "min", "min is larger than max")
        parameter = replace(parameter, minimum=low, maximum=high)
        return replace(parameter, default=self._checked(path, table, "default", parameter))

    def _checked(self, path: tuple[str, ...], table: Mapping[str, object], key: str, parameter: Parameter) -> Any:
        if key not in table:
            return None
        try:
            return checked_value(parameter, _json(table[key]))
        except ValueError as error:
            raise self._wrong(path, key, f"{key}: {error}") from None

    def _values(self, path: tuple[str, ...], table: Mapping[str, object]) -> tuple[str, ...]:
        values = self._typed(path, table, "values", list, [])
        if not values or not all(isinstance(value, str) and value for value in values):
            raise self._wrong(path, "values", "values is a list of one text or more, none of them empty")
        return tuple(values)

    def _tables(self) -> tuple[str, ...]:
        tables = self._typed((), self._keys, "tables", list, [])
        for table in tables:
            if not isinstance(table, str) or _TABLE.fullmatch(table) is None:
                raise self._wrong((), "tables", f"tables: {table!r} is no name of the form table or schema.table")
            schema, _, name = table.lower().rpartition(".")
            if self._database is not None and schema == self._database.lower():
                reason = f"{schema} is the DuckDB file itself and no schema; accepted: table or schema.table"
                raise self._wrong((), "tables", f"tables: {table}: {reason}")
            if schema in _HIDDEN_SCHEMAS or name in _HIDDEN_TABLES or _NO_TABLE.fullmatch(table.lower()):
                raise self._wrong((), "tables", f"tables: {table} may not be read directly")
        return tuple(tables)

    def _check_placeholders(self, template: Template, text: str, text_line: int, prefix: str) -> None:
        used = placeholders(text)
        names = [parameter.name for parameter in template.parameters]
        for name, line in used:
            at = text_line + line - 1 if text_line else 1
            if not is_name(name):
                raise FrontMatterError(at, f"{prefix}${name}: write a placeholder as $name, and text between quotes")
            if name not in names and name not in RESERVED:
                raise FrontMatterError(at, f"{prefix}${name} is used and not declared")
            if name == "customers" and template.scope == "own":
                raise FrontMatterError(at, f'{prefix}$customers is bound only with scope = "allowed"')
        found = {name for name, _ in used}
        for name in names:
            if name not in found:
                raise self._wrong(("params", name), None, f"{prefix}declared and not used")
        if template.isolated_by not in found:
            reason = f"${template.isolated_by} is not used: say whose rows are read"
            raise FrontMatterError(text_line or 1, prefix + reason)

    def _known(self, path: tuple[str, ...], table: Mapping[str, object], known: Collection[str]) -> None:
        for key in table:
            if key not in known:
                raise self._wrong(path, key, f"{key!r} is not known here; known: {', '.join(sorted(known))}")

    def _typed(
        self, path: tuple[str, ...], table: Mapping[str, object], key: str, kind: type[Any], default: Any
    ) -> Any:
        value = table.get(key, default)
        if type(value) is not kind:
            noun = {dict: "a table", list: "a list", bool: "true or false", int: "an integer"}[kind]
            raise self._wrong(path, key, f"{key} must be {noun}")
        return value

    def _count(self, path: tuple[str, ...], table: Mapping[str, object], key: str, most: int) -> int | None:
        if key not in table:
            return None
        value: int = self._typed(path, table, key, int, 0)
        if not 1 <= value <= most:
            raise self._wrong(path, key, f"{key} must be from 1 to {most}")
        return value

    def _sentence(self, path: tuple[str, ...], table: Mapping[str, object], key: str) -> str:
        value = table.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(path, key, f"{key} is missing: a sentence for those who choose")
        return value.strip()

    def _one_of(
        self,
        path: tuple[str, ...],
        table: Mapping[str, object],
        key: str,
        values: Sequence[str],
        default: str | None = None,
    ) -> str:
        value = table.get(key, default)
        if not isinstance(value, str) or value not in values:
            was = f" is {value!r}" if key in table else " is missing"
            raise self._wrong(path, key, f"{key}{was}; accepted: {', '.join(values)}")
        return value

    def _wrong(self, path: tuple[str, ...], key: str | None, reason: str) -> FrontMatterError:
        where = f"{'.'.join(path)}: " if path else ""
        return FrontMatterError(self._line(path, key), where + reason)

    def _line(self, path: tuple[str, ...], key: str | None) -> int:
        """The line of a key, or else of its table's header, or else the file's first."""
        table: tuple[str, ...] = ()
        header = 1
        for number, line in enumerate(self._matter, 2):
            match = _HEADER.match(line)
            if match:
                table = tuple(part.strip(" \t\"'") for part in match[1].split("."))
                header = number if table == path else header
            elif table == path and key is not None and line.partition("=")[0].strip(" \t\"'") == key:
                return number
        return header


def _json(value: Any) -> Any:
    """A TOML value as JSON has it: dates and times become text."""
    if isinstance(value, dict):
        return {key: _json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_json(one) for one in value]
    return value.isoformat() if isinstance(value, date | datetime) else value
