"""One table from the codes of Snowflake's and its connector's errors to our classes.

Codes below 100 are the connector's own kinds of errors, 250000 to 255999 its older numbers; the others are the
server's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from snowledger_uploader._errors import (
    AuthenticationNeededError,
    UploaderError,
    WarehouseRefusedError,
    WarehouseUnavailableError,
)

if TYPE_CHECKING:
    from snowflake.connector.errors import Error

_APPLY = "run: snowledger ddl apply"
_LOGIN = "mend the connection's entry in connections.toml"


class Meaning(NamedTuple):
    """What a code stands for."""

    raised: type[UploaderError]
    meaning: str
    hint: str = ""
    """What to do."""


_AWAY, _REFUSED, _LOGIN_NEEDED = WarehouseUnavailableError, WarehouseRefusedError, AuthenticationNeededError

CODES = {
    # The connector, by the kind of error.
    0: Meaning(_AWAY, "an answer that says nothing"),
    1: Meaning(_LOGIN_NEEDED, "the login failed", _LOGIN),
    2: Meaning(_REFUSED, "the connector cannot do that"),
    3: Meaning(_REFUSED, "the connector does not accept an argument", _LOGIN),
    4: Meaning(_AWAY, "the network or a file failed"),
    5: Meaning(_AWAY, "the statement was cancelled"),
    6: Meaning(_AWAY, "the connector failed"),
    7: Meaning(_REFUSED, "the connection's entry is not there or lacks something", _LOGIN),
    8: Meaning(_REFUSED, "the connection's entry has a value that is not accepted", _LOGIN),
    9: Meaning(_LOGIN_NEEDED, "the login failed", _LOGIN),
    10: Meaning(_AWAY, "a file to upload is gone"),
    11: Meaning(_AWAY, "a staged file is gone"),
    13: Meaning(_AWAY, "the statement failed, and nothing says why"),
    14: Meaning(_AWAY, "no answer in time"),
    15: Meaning(_AWAY, "the network failed"),
    # The connector, by its older numbers.
    250001: Meaning(_AWAY, "the session cannot be renewed"),
    250002: Meaning(_AWAY, "the session is closed"),
    251001: Meaning(_REFUSED, "the connection's entry has no account", _LOGIN),
    251005: Meaning(_REFUSED, "the connection's entry has no user", _LOGIN),
    251006: Meaning(_LOGIN_NEEDED, "the connection's entry has no password", _LOGIN),
    251007: Meaning(_REFUSED, "the connection's entry has a value that is not accepted", _LOGIN),
    251017: Meaning(_REFUSED, "the connection's settings for workload identity contradict each other", _LOGIN),
    252006: Meaning(_AWAY, "the session is closed"),
    253006: Meaning(_AWAY, "a file to upload or a staged file is gone"),
    # Logging in.
    390100: Meaning(_LOGIN_NEEDED, "wrong user name or password", _LOGIN),
    390101: Meaning(_LOGIN_NEEDED, "the user is disabled", "have it enabled"),
    390102: Meaning(_LOGIN_NEEDED, "the user is locked after wrong logins", "wait, or have it unlocked"),
    390111: Meaning(_AWAY, "the session is gone"),
    390112: Meaning(_AWAY, "the session has expired"),
    390113: Meaning(_AWAY, "the session cannot be renewed"),
    390114: Meaning(_AWAY, "the session has expired"),
    390115: Meaning(_AWAY, "the session cannot be renewed"),
    390144: Meaning(_LOGIN_NEEDED, "the key pair is not accepted", _LOGIN),
    390186: Meaning(_REFUSED, "the role is not granted to the user", _APPLY),
    390189: Meaning(_REFUSED, "the role does not exist or is not granted to the user", _APPLY),
    390195: Meaning(_LOGIN_NEEDED, "the identity token is not accepted", _LOGIN),
    390201: Meaning(_REFUSED, "the database or warehouse does not exist, or the role may not use it", _APPLY),
    390303: Meaning(_LOGIN_NEEDED, "the OAuth token is not accepted", _LOGIN),
    390318: Meaning(_LOGIN_NEEDED, "the OAuth token has expired", _LOGIN),
    390422: Meaning(_REFUSED, "a network policy keeps this machine out", "have it allowed"),
    394400: Meaning(_LOGIN_NEEDED, "the programmatic access token is not accepted", _LOGIN),
    394401: Meaning(_LOGIN_NEEDED, "the programmatic access token has expired", _LOGIN),
    # Statements.
    603: Meaning(_AWAY, "an internal error there"),
    604: Meaning(_AWAY, "the statement was cancelled"),
    606: Meaning(_REFUSED, "there is no such warehouse, or the role may not use it", _APPLY),
    625: Meaning(_AWAY, "another transaction has the table locked"),
    630: Meaning(_AWAY, "the statement reached its time limit"),
    904: Meaning(_REFUSED, "a column is not there", _APPLY),
    1003: Meaning(_REFUSED, "a statement is not understood"),
    2003: Meaning(_REFUSED, "an object is not there, or the role may not use it", _APPLY),
    2043: Meaning(_REFUSED, "an object is not there, or the role may not use it", _APPLY),
    3001: Meaning(_REFUSED, "the role lacks a privilege", _APPLY),
    90073: Meaning(_REFUSED, "a resource monitor keeps the warehouse suspended", "raise its quota"),
    90105: Meaning(_REFUSED, "the database is not there, or the role may not use it", _APPLY),
    90106: Meaning(_REFUSED, "the schema is not there, or the role may not use it", _APPLY),
    91016: Meaning(_AWAY, "a staged file is gone"),
    # Reading a staged file: it is damaged, and not what was written here. The next attempt uploads it again.
    100076: Meaning(_AWAY, "a staged file is damaged"),
    100079: Meaning(_AWAY, "a staged file is damaged"),
}

_REFUSED_LOGIN = Meaning(_LOGIN_NEEDED, "the login failed", _LOGIN)

_OF_A_LOGIN = {
    6: Meaning(_REFUSED, "the connector failed, maybe for a connections.toml that is not TOML", _LOGIN),
    250001: _REFUSED_LOGIN,
}
"""What means something else where a session begins."""

_LOGIN_CODES = range(390_000, 395_000)
"""Snowflake's codes for logins. One that is not in the table is not tried again at once: that would lock the user."""

_LOGIN_STATE = "28"
"""The class of SQLSTATE for credentials that are not accepted."""

_NO_ANSWER = re.compile(
    r"(?i)HTTP request failed|Invalid Snowflake response|connection refused|connection reset|timed? ?out|dns"
    r"|\b(?:429|503)\b"
)
"""What the connector says for want of an answer, with a number that stands for other things, too: 6 or 250001."""


def meaning(error: Error, *, login: bool = False) -> Meaning | None:
    """What an error means that came of a statement, or of a login; None when nothing here says it."""
    code, state = error.errno, error.sqlstate or ""
    if code in _OF_A_LOGIN and _NO_ANSWER.search(error.raw_msg or ""):
        return Meaning(_AWAY, "no answer")
    if login and code in _OF_A_LOGIN:
        return _OF_A_LOGIN[code]
    if login and code not in CODES and (code in _LOGIN_CODES or state.startswith(_LOGIN_STATE)):
        return _REFUSED_LOGIN
    return CODES.get(code)
