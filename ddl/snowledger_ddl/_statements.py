"""The SQL files of a dialect as a sequence of statements."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable

from ._errors import DdlError
from ._names import SnowflakeNames

DIALECTS = ("duckdb", "snowflake")

# A statement ends at a semicolon that is not part of a string, a quoted name, a comment or a $$ body.
# Each alternative is atomic, so an unclosed quote costs linear time as well.
_STATEMENT = re.compile(
    r"""(?> '(?:[^']|'')*' | "[^"]*" | --[^\n]* | /\*.*?\*/ | \$\$.*?\$\$ | [^;] )+""",
    re.DOTALL | re.VERBOSE,
)

_VERSION_MARK = "{version}"
_VARIABLE = re.compile(r"\$\{(\w+)\}")

# Two texts of one object are told apart, not defended against forgery; short enough to read in a comment.
_VERSION_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement, with the comments that precede it.

    ``name`` is what the contract calls the object that the file creates (``events``, ``warehouse``), ``object`` what it
    is called in the database, ``file`` the path inside the package (``duckdb/04_events.sql``), ``version`` the start of
    the SHA-256 of the file's text, which stands in the comment that the file leaves on its object. ``reason`` says why
    it must run, where that is known.
    """

    name: str
    object: str
    file: str
    version: str
    sql: str
    reason: str = field(default="", compare=False)

    @property
    def title(self) -> str:
        """The first line that is no comment, which says what it is about."""
        return next(line for line in self.sql.splitlines() if not line.startswith("--")).removesuffix(" (")


def statements(dialect: str, names: SnowflakeNames | None = None) -> tuple[Statement, ...]:
    """All statements that make up the schema, in the order in which they must run.

    The files of a dialect are ``NN_object.sql``: one object each, ordered by number, every statement
    idempotent. A file ends with a comment on its object that holds ``{version}``, if the dialect has
    comments on objects of that kind.

    Raises:
        DdlError: there is no such dialect.
    """
    folder = _folder(dialect)
    variables = _variables(names)
    numbered = sorted((file for file in folder.iterdir() if file.name[0].isdigit()), key=lambda file: file.name)
    return tuple(statement for file in numbered for statement in _of_file(dialect, file, variables))


def catalog_queries(dialect: str, file: str, names: SnowflakeNames | None = None) -> list[str]:
    """The statements of a file that only reads. Raises ``DdlError``: there is no such dialect."""
    text = (_folder(dialect) / file).read_text(encoding="utf-8")
    return [sql for sql in _rendered(text, _variables(names)) if sql.strip()]


def _folder(dialect: str) -> Traversable:
    if dialect not in DIALECTS:
        raise DdlError(f"no SQL dialect {dialect!r}; there is: {', '.join(DIALECTS)}")
    return resources.files(__package__) / dialect


def _variables(names: SnowflakeNames | None) -> Mapping[str, str | None]:
    return (names or SnowflakeNames()).variables()


def _of_file(dialect: str, file: Traversable, variables: Mapping[str, str | None]) -> Iterator[Statement]:
    rendered = _rendered(file.read_text(encoding="utf-8"), variables)
    version = hashlib.sha256(";".join(rendered).encode()).hexdigest()[:_VERSION_LENGTH]
    _, _, name = file.name.removesuffix(".sql").partition("_")
    for sql in rendered:
        if sql.strip():
            yield Statement(
                name=name,
                object=variables.get(name) or name,
                file=f"{dialect}/{file.name}",
                version=version,
                sql=sql.replace(_VERSION_MARK, version).strip(),
            )


def _rendered(text: str, variables: Mapping[str, str | None]) -> list[str]:
    """The file's statements with their variables, without those that mention one that has no value."""
    return [
        _VARIABLE.sub(lambda match: str(variables[match[1]]), sql)
        for sql in _STATEMENT.findall(text)
        if all(variables[name] is not None for name in _VARIABLE.findall(sql))
    ]
