"""Functions of Snowflake's that neither DuckDB nor fakesnow has, or that work otherwise there."""

import re
from collections.abc import Callable

from duckdb import DuckDBPyConnection
from sqlglot import exp

_WHOLE = "('BIGINT', 'UBIGINT', 'HUGEINT')"
_NUMBER = "('BIGINT', 'UBIGINT', 'HUGEINT', 'DOUBLE')"

_MACROS = {
    "AS_VARCHAR(v)": "CASE WHEN json_type(v) = 'VARCHAR' THEN v ->> '$' END",
    "AS_BOOLEAN(v)": "CASE WHEN json_type(v) = 'BOOLEAN' THEN CAST(v AS BOOLEAN) END",
    "AS_DOUBLE(v)": f"CASE WHEN json_type(v) IN {_NUMBER} THEN CAST(v AS DOUBLE) END",
    "AS_INTEGER(v)": f"CASE WHEN json_type(v) IN {_WHOLE} THEN CAST(v AS BIGINT)"
    " WHEN json_type(v) = 'DOUBLE' AND CAST(v AS DOUBLE) % 1 = 0 THEN CAST(CAST(v AS DOUBLE) AS BIGINT) END",
    "AS_ARRAY(v)": "CASE WHEN json_type(v) = 'ARRAY' THEN v END",
    "AS_OBJECT(v)": "CASE WHEN json_type(v) = 'OBJECT' THEN v END",
    "IS_VARCHAR(v)": "json_type(v) = 'VARCHAR'",
    "IS_BOOLEAN(v)": "json_type(v) = 'BOOLEAN'",
    "IS_DOUBLE(v)": f"json_type(v) IN {_NUMBER}",
    "IS_INTEGER(v)": f"json_type(v) IN {_WHOLE}",
    "IS_ARRAY(v)": "json_type(v) = 'ARRAY'",
    "IS_OBJECT(v)": "json_type(v) = 'OBJECT'",
    "IS_NULL_VALUE(v)": "json_type(v) = 'NULL'",
    "_TRY_MOMENT(x)": "TRY_CAST(x AS TIMESTAMP)",
    "_ARRAY_HAS(a, v)": "list_contains(CAST(TO_JSON(a) AS JSON[]), to_json(v))",
    "_VARIANT_TYPE(v)": f"CASE WHEN json_type(v) IN {_WHOLE} THEN 'INTEGER'"
    " WHEN json_type(v) = 'NULL' THEN 'NULL_VALUE' ELSE json_type(v) END",
}


def create_functions(connection: DuckDBPyConnection, database: str) -> None:
    for signature, body in _MACROS.items():
        connection.execute(f'CREATE OR REPLACE MACRO "{database}".main.{signature} AS {body}')


def rewritten(node: exp.Expr) -> exp.Expr:
    """A function as fakesnow and DuckDB do it rightly."""
    rewrite = _REWRITES.get(type(node))
    return rewrite(node) if rewrite else node


def _named_values(values: exp.Expr) -> exp.Expr:
    """Snowflake calls the columns of VALUES column1, column2 and so on."""
    alias = values.args.get("alias")
    rows = values.expressions
    if alias and not alias.args.get("columns") and rows and isinstance(rows[0], exp.Tuple):
        names = [exp.to_identifier(f"COLUMN{place}") for place in range(1, len(rows[0].expressions) + 1)]
        alias.set("columns", names)
    return values


def _numbered_column(parameter: exp.Expr) -> exp.Expr:
    """Outside a stage, $1 is the first column of VALUES."""
    return exp.column(f"COLUMN{parameter.name}") if parameter.name.isdigit() else parameter


def _whole_match(node: exp.Expr) -> exp.Expr:
    """Snowflake's REGEXP_LIKE wants the whole text to match."""
    return exp.Anonymous(this="REGEXP_FULL_MATCH", expressions=[node.this, node.args["expression"]])


def _variant_type(node: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this="_VARIANT_TYPE", expressions=[node.this])


def _variant(node: exp.Expr) -> exp.Expr:
    """Text becomes a JSON string, where DuckDB would read it as JSON."""
    if not node.args["to"].is_type("VARIANT") or isinstance(node.this, exp.Null):
        return node
    return exp.Anonymous(this="TO_JSON", expressions=[node.this])


def _array_has(node: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this="_ARRAY_HAS", expressions=[node.this, node.args["expression"]])


def _moment(node: exp.Expr) -> exp.Expr:
    """A time in whatever format."""
    if node.args["format"].name.upper() != "AUTO":
        return node
    cast = exp.TryCast if node.args.get("safe") else exp.Cast
    return _tried_moment(cast(this=node.this, to=node.args.get("target_type") or exp.DataType.build("TIMESTAMP")))


def _tried_moment(node: exp.Expr) -> exp.Expr:
    """fakesnow would make of it a cast that fails."""
    if not isinstance(node, exp.TryCast) or not node.to.is_type("TIMESTAMP", "TIMESTAMPNTZ"):
        return node
    return exp.Anonymous(this="_TRY_MOMENT", expressions=[node.this])


_FORMAT = re.compile(r'YYYY|MM|DD|HH24|MI|SS|FF[369]?|"([^"]*)"')
_CODES = {
    "YYYY": "%Y",
    "MM": "%m",
    "DD": "%d",
    "HH24": "%H",
    "MI": "%M",
    "SS": "%S",
    "FF": "%n",
    "FF3": "%g",
    "FF6": "%f",
    "FF9": "%n",
}


def _formatted_moment(node: exp.Expr) -> exp.Expr:
    format_ = node.args.get("format")
    if not isinstance(format_, exp.Literal) or not _FORMAT.search(format_.name):
        return node
    code = _FORMAT.sub(lambda found: _CODES.get(found[0], found[1] or ""), format_.name)
    return exp.Anonymous(this="STRFTIME", expressions=[node.this, exp.Literal.string(code)])


_REWRITES: dict[type[exp.Expr], Callable[[exp.Expr], exp.Expr]] = {
    exp.ArrayContains: _array_has,
    exp.Cast: _variant,
    exp.Parameter: _numbered_column,
    exp.RegexpLike: _whole_match,
    exp.StrToTime: _moment,
    exp.TimeToStr: _formatted_moment,
    exp.ToChar: _formatted_moment,
    exp.TryCast: _tried_moment,
    exp.Typeof: _variant_type,
    exp.Values: _named_values,
}
