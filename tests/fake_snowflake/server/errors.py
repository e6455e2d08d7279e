"""Failures in Snowflake's words."""

import re

import duckdb
import snowflake.connector.errors as reference
from sqlglot.errors import ParseError

# What a command over HTTP is told when its session cannot be used.
SESSION_GONE = 390111
SESSION_EXPIRED = 390112
MASTER_EXPIRED = 390114


class SnowflakeError(Exception):
    """A request that fails; `code` and `sqlstate` are Snowflake's."""

    def __init__(self, code: int, message: str, sqlstate: str = "22000") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.sqlstate = sqlstate


def cancelled() -> SnowflakeError:
    return SnowflakeError(604, "SQL execution canceled", "57014")


def timed_out(seconds: float) -> SnowflakeError:
    message = f"Statement reached its statement or warehouse timeout of {seconds:g} second(s) and was canceled."
    return SnowflakeError(630, message, "57014")


def syntax_error(message: str) -> SnowflakeError:
    return SnowflakeError(1003, f"SQL compilation error:\n{message}", "42000")


def missing(kind: str, name: str) -> SnowflakeError:
    message = f"SQL compilation error:\n{kind} '{name}' does not exist or not authorized."
    return SnowflakeError(2003, message, "02000")


def unsupported(message: str) -> SnowflakeError:
    """Snowflake could do this, the fake cannot; the code is Snowflake's for internal errors."""
    return SnowflakeError(603, f"The fake cannot do this: {message}", "XX000")


def translated(error: Exception) -> SnowflakeError:
    """What Snowflake would have reported where fakesnow or DuckDB raised `error`."""
    first_line = str(error).split("\n", 1)[0]
    match error:
        case SnowflakeError():
            found = error
        case reference.Error():
            text = re.sub(r"^\d{6} \(\w+\): ", "", error.msg or str(error))
            if column := re.search(r'Referenced column "(.+?)" not found', text):
                return SnowflakeError(904, f"SQL compilation error:\ninvalid identifier '{column[1]}'", "42000")
            found = SnowflakeError(error.errno or 603, text, error.sqlstate or "XX000")
        case ParseError():
            found = syntax_error(re.sub(r"\x1b\[\d+m", "", str(error)))
        case duckdb.InterruptException():
            found = cancelled()
        case duckdb.ConversionException() | duckdb.InvalidInputException() | duckdb.OutOfRangeException():
            found = SnowflakeError(100038, first_line, "22018")
        case duckdb.ConstraintException():
            found = SnowflakeError(100072, f"NULL result in a non-nullable column: {first_line}", "22000")
        case _:
            found = unsupported(f"{type(error).__name__}: {error}")
    return found
