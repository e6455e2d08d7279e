"""What the connector's errors mean: by the table of codes, else by the class of SQLSTATE, of which some may pass."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from snowledger_uploader._errors import (
    QueryFailedError,
    RowsRejectedError,
    UploaderError,
    WarehouseRefusedError,
    WarehouseUnavailableError,
)

from ._codes import meaning

if TYPE_CHECKING:
    from snowflake.connector.errors import Error

_OF_THE_QUERY = (904, 1003)
"""What is the template's fault when a query meets it, and not the contract's."""

_PASSING_STATES = ("08", "40", "53", "57", "58", "HYT", "XX")
"""Classes of SQLSTATE: no connection, transaction rolled back, no resources, stopped by somebody, system, time-out,
internal. The next attempt may work."""

_DATA_STATE = "22"
"""The class of SQLSTATE for values that cannot be used."""

_DATA_CODES = range(100_000, 101_000)
"""Snowflake's codes for the same: 100069 is text that is not JSON, 100082 a value that is too large."""

_NAME = re.compile(r"invalid identifier '([^'\n]{1,200})'")
"""A name of the template's own."""

_SECRET = re.compile(
    r"(?i)((?:authorization|bearer|pass|private[_ ]?key|pwd|secret|signature|token)\w*\W+)\S.*"
    r"|\beyJ[\w.-]+|(?<=//)[^/@\s]+(?=@)"
)
"""What follows a secret's name, to the end of the line, for it may have spaces; what looks like a JWT; and the user and
password of an address."""

_QUERY_STRING = re.compile(r"\?[^\s)]*")
_NUMBER = re.compile(r"^\d{6}(?: \(\w+\))?: ")

_MAX_CHARACTERS = 300
"""Of the connector's message: enough for one sentence and the names in it."""


def load_error(error: Error, *, login: bool = False) -> UploaderError:
    """What is raised instead of an error of the connector's.

    One that nothing is known of is neither a ``WarehouseUnavailableError`` nor a ``WarehouseRefusedError``.
    """
    found = meaning(error, login=login)
    detail = redacted(error)
    if found is None:
        return (WarehouseUnavailableError if _passes(error) else UploaderError)(f"Snowflake: {detail}")
    hint = f"; {found.hint}" if found.hint else ""
    return found.raised(f"Snowflake: {found.meaning}{hint} ({detail})")


def row_error(error: Error) -> UploaderError:
    """What is raised where events are read: there, and only there, a value that cannot be used is a row's."""
    data = (error.sqlstate or "").startswith(_DATA_STATE) or error.errno in _DATA_CODES
    return RowsRejectedError(redacted(error)) if data and meaning(error) is None else load_error(error)


def query_error(error: Error, *, login: bool = False) -> UploaderError:
    """What a query raises instead, for its owner to read: without the connector's words, which may quote data."""
    found = meaning(error, login=login)
    if found is None:
        if _passes(error):
            return WarehouseUnavailableError("the warehouse cannot answer now")
        return QueryFailedError(f"the warehouse cannot answer this query (code {error.errno})")
    if error.errno in _OF_THE_QUERY:
        name = _NAME.search(error.raw_msg or "")
        which = f": {name[1]}" if name else ""
        return QueryFailedError(f"the warehouse cannot answer this query: {found.meaning}{which}")
    if found.raised is not WarehouseUnavailableError:
        return WarehouseRefusedError(f"the warehouse cannot be used: {found.meaning}")
    return found.raised(f"the warehouse cannot answer now: {found.meaning}")


def redacted(error: Error) -> str:
    """The first line of the connector's message with its code, without what may be secret."""
    # The further lines quote the statement, or the line of connections.toml that is wrong.
    line = next(iter((error.raw_msg or "").strip().splitlines()), type(error).__name__)
    line = _SECRET.sub(r"\1…", _QUERY_STRING.sub("", _NUMBER.sub("", line)))
    if len(line) > _MAX_CHARACTERS:
        line = f"{line[:_MAX_CHARACTERS]}…"
    return f"{line} [{error.errno:06d}]" if error.errno >= 0 else line


def _passes(error: Error) -> bool:
    return (error.sqlstate or "").startswith(_PASSING_STATES)
