"""The SQL files of a dialect as a sequence of statements."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from ._errors import DdlError

DIALECTS = ("duckdb",)

# A statement ends at a semicolon that is not part of a string, a quoted name, a comment or a $$ body.
# Each alternative is atomic, so an unclosed quote costs linear time as well.
_STATEMENT = re.compile(
    r"""(?> '(?:[^']|'')*' | "[^"]*" | --[^\n]* | /\*.*?\*/ | \$\$.*?\$\$ | [^;] )+""",
    re.DOTALL | re.VERBOSE,
)

_VERSION_MARK = "{version}"

# Two texts of one object are told apart, not defended against forgery; short enough to read in a comment.
_VERSION_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement, with the comments that precede it.

    ``file`` is the path inside the package (``duckdb/04_events.sql``); ``object`` is what that file creates
    (``events``), ``version`` the start of the SHA-256 of the file's text, which stands in the comment
    that the file leaves on its object.
    """

    object: str
    file: str
    version: str
    sql: str


def statements(dialect: str) -> tuple[Statement, ...]:
    """All statements that make up the schema, in the order in which they must run.

    The files of a dialect are ``NN_object.sql``: one object each, ordered by number, every statement
    idempotent. A file ends with a comment on its object that holds ``{version}``, if the dialect has
    comments on objects of that kind.

    Raises:
        DdlError: there is no such dialect.
    """
    folder = dialect_folder(dialect)
    numbered = sorted((file for file in folder.iterdir() if file.name[0].isdigit()), key=lambda file: file.name)
    return tuple(statement for file in numbered for statement in _split(dialect, file))


def dialect_folder(dialect: str) -> Traversable:
    """Where the dialect's SQL is; DdlError when there is no such dialect."""
    if dialect not in DIALECTS:
        raise DdlError(f"no SQL dialect {dialect!r}; there is: {', '.join(DIALECTS)}")
    return resources.files(__package__) / dialect


def _split(dialect: str, file: Traversable) -> Iterator[Statement]:
    text = file.read_text(encoding="utf-8")
    version = hashlib.sha256(text.encode()).hexdigest()[:_VERSION_LENGTH]
    _, _, name = file.name.removesuffix(".sql").partition("_")
    for sql in _STATEMENT.findall(text.replace(_VERSION_MARK, version)):
        if sql.strip():
            yield Statement(object=name, file=f"{dialect}/{file.name}", version=version, sql=sql.strip())
