"""Which functions a template may call: those that see nothing but what they are given.

Needs sqlglot, so it is imported only where a template is checked or run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlglot import exp

_KNOWN = frozenset(
    {
        "epoch_us",
        "histogram",
        "json_array_length",
        "json_contains",
        "json_group_array",
        "json_group_object",
        "json_valid",
        "object_keys",
        "to_hours",
        "to_json",
        "to_minutes",
        "to_seconds",
    }
)
"""Functions that sqlglot takes as they are; of the others that it does not know, nobody here knows what they reach."""

_CLOCK_OR_SESSION = re.compile(r"(Current|Local|Utc)[A-Z]?\w*|SessionUser|Systimestamp")
"""sqlglot's classes for what the clock or the session says."""

_REACHING = re.compile(
    r"Read(CSV|Parquet)|NextValueFor|Seq\d|Secret|ToFile|ObjectId|DynamicIdentifier|Generator|Predict|VectorSearch"
    r"|FeaturesAtTime|(AI|ML)[A-Z]\w*|Generate(Text|Embedding|Table)"
)
"""sqlglot's classes for files, sequences, models and names that become tables."""

_NAMES_OF_SESSION = re.compile(
    r"user|(current|session)_(catalog|database|date|role|schema|time|timestamp|user)|local(time|timestamp)",
    re.IGNORECASE,
)
"""Names that DuckDB takes for such functions, also in quotation marks, where no column has them."""

_SESSION_REASON = "what the clock or the session says is not allowed; the time is $now"


def called(node: exp.Expr) -> str:
    """The name of a function that sqlglot does not know, without quotation marks; of all else nothing."""
    if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc):
        return node.this.name if isinstance(node.this, exp.Expr) else str(node.this).strip('"`')
    return ""


def wrong_call(function: exp.Func, *, has_own_texts: bool) -> Iterator[str]:
    """Why it may not be called."""
    kind = type(function).__name__
    if isinstance(function, exp.Anonymous | exp.AnonymousAggFunc):
        name = called(function)
        # Only ASCII: no other letter may fold to one of a known name.
        if not name.isascii() or name.lower() not in _KNOWN:
            yield f"{name}: functions that reach beyond the rows are not allowed, nor are unknown ones"
        elif not has_own_texts:
            yield f"{name}: cannot be translated for Snowflake; put the Snowflake text into NAME.snowflake.sql"
    elif _CLOCK_OR_SESSION.fullmatch(kind):
        yield f"{function.sql('duckdb')}: {_SESSION_REASON}"
    elif _REACHING.fullmatch(kind):
        yield f"{function.sql_name()}: functions that reach beyond the rows are not allowed"


def wrong_member(member: exp.Expr) -> Iterator[str]:
    """Why it may not stand after a dot: a schema may have a function with the name of a known one."""
    if not isinstance(member, exp.Identifier | exp.Star):
        yield f"{member.sql('duckdb')}: functions of a schema are not allowed; write name(…) without a dot before it"


def wrong_column(column: exp.Column) -> Iterator[str]:
    """Why a column may not be read."""
    if column.args.get("db"):
        yield f"{column.sql()}: name a column by its table's name or alias alone"
    elif column.table and column.name.lower() == "nextval":
        yield f"{column.sql()}: sequences are not allowed"
    elif not column.table and _NAMES_OF_SESSION.fullmatch(column.name):
        yield f"{column.name}: {_SESSION_REASON}"
