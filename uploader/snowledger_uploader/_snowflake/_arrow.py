"""From the Arrow that Snowflake sends to columns of a Parquet file, as expressions of DuckDB's SQL.

Snowflake's encoding is what the connector's converters read: a number with a scale is an integer times a power of ten
unless it is too large for 64 bits; a time is an integer of its unit, or a struct of seconds and nanoseconds; what is
semi-structured is text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._columns import Column

_TYPES = {"FIXED": "NUMBER", "REAL": "FLOAT", "TEXT": "VARCHAR"}
"""Of those that have another name in Snowflake's SQL."""

_MICROSECONDS = 6
"""Digits after the point; more are cut off, for Parquet's readers have no nanoseconds in common."""


def type_name(column: Column) -> str:
    """The type as Snowflake's SQL says it."""
    name = _TYPES.get(column.type, column.type)
    return f"{name}({column.precision},{column.scale})" if column.type == "FIXED" else name


def label(column: Column) -> str:
    """The column's name; in lower case when it was not quoted, for Snowflake then has it in upper case."""
    return column.name.lower() if column.name == column.name.upper() else column.name


def readable(column: Column, value: str, arrow: str) -> str:
    """An expression for ``value``, which DuckDB sees in the type ``arrow``."""
    match column.type:
        case "FIXED":
            return _number(column, value, arrow)
        case "REAL" | "TEXT" | "BOOLEAN" | "DATE" | "BINARY":
            return value
        case "TIME":
            return f"TIME '00:00:00' + to_microseconds({_micros(value, column.scale)})"
        case "TIMESTAMP_NTZ" | "TIMESTAMP_LTZ" | "TIMESTAMP_TZ":
            # All of them are UTC in the file; what a zone adds is only how somebody wrote it.
            return f"make_timestamp({_moment(column, value, arrow)})"
        case "VARIANT" | "OBJECT" | "ARRAY" | "MAP":
            # It comes with line breaks; an undefined value in it is no JSON.
            return f"CASE WHEN json_valid({value}) THEN CAST(json({value}) AS VARCHAR) ELSE {value} END"
        case _:
            return f"CAST({value} AS VARCHAR)"


def _number(column: Column, value: str, arrow: str) -> str:
    if arrow.startswith("DECIMAL"):
        return value
    if scale := column.scale:
        unit = f"CAST(0.{1:0{scale}d} AS DECIMAL({scale}, {scale}))"
        return f"CAST(CAST({value} AS DECIMAL(19, 0)) * {unit} AS DECIMAL(38, {scale}))"
    return f"CAST({value} AS BIGINT)"


def _moment(column: Column, value: str, arrow: str) -> str:
    """Microseconds since 1970."""
    if not arrow.startswith("STRUCT"):
        return _micros(value, column.scale)
    if '"fraction"' in arrow or "fraction " in arrow:
        return f"{value}.epoch * 1000000 + {value}.fraction // 1000"
    return _micros(f"{value}.epoch", column.scale)


def _micros(value: str, scale: int) -> str:
    value = f"CAST({value} AS BIGINT)"
    power = 10 ** abs(_MICROSECONDS - scale)
    return f"{value} * {power}" if scale <= _MICROSECONDS else f"{value} // {power}"
