"""Who may log in, and the tokens they get."""

from typing import Any

import jwt
from tests.fake_snowflake.server.account import Account
from tests.fake_snowflake.server.errors import MASTER_EXPIRED, SESSION_EXPIRED, SESSION_GONE, SnowflakeError
from tests.fake_snowflake.server.sessions import Session

_TOKEN_S = 3600  # a session token's life as Snowflake has it; tests expire it when they like
_MASTER_S = 14_400
_VERSION = "9.0.0"


def log_in(account: Account, data: dict[str, Any], names: dict[str, str | None]) -> dict[str, Any]:
    """Check who it is and make a session.

    Raises:
        SnowflakeError: credentials are wrong, with the code that Snowflake has for their kind.
    """
    user = str(data.get("LOGIN_NAME") or "").upper()
    _authenticate(account, user, data)
    parameters = {name.upper(): str(value) for name, value in (data.get("SESSION_PARAMETERS") or {}).items()}
    session = Session(account, account.engine, user, names, parameters)
    account.sessions[session.token] = session
    return {
        "token": session.token,
        "masterToken": session.master_token,
        "validityInSeconds": _TOKEN_S,
        "masterValidityInSeconds": _MASTER_S,
        "sessionId": session.number,
        "displayUserName": user,
        "serverVersion": _VERSION,
        "healthCheckInterval": 45,
        "parameters": [
            {"name": "AUTOCOMMIT", "value": parameters.get("AUTOCOMMIT", "true").lower() != "false"},
            {"name": "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", "value": 3600},
            # Zero: clients send arrays of bound values with the statement, not through a stage.
            {"name": "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", "value": 0},
            {"name": "CLIENT_TELEMETRY_ENABLED", "value": False},
        ],
        "sessionInfo": {
            "databaseName": session.database,
            "schemaName": session.schema,
            "warehouseName": session.facts.warehouse,
            "roleName": session.facts.role,
        },
    }


def _authenticate(account: Account, user: str, data: dict[str, Any]) -> None:
    secrets = account.secrets.get(user, set())
    match str(data.get("AUTHENTICATOR") or "SNOWFLAKE").upper():
        case "SNOWFLAKE_JWT":
            key = account.keys.get(user)
            try:
                jwt.decode(str(data.get("TOKEN")), key or "", algorithms=["RS256"], options={"verify_aud": False})
            except (jwt.PyJWTError, ValueError) as error:
                raise SnowflakeError(390144, "JWT token is invalid.", "08001") from error
        case "OAUTH":
            if data.get("TOKEN") not in secrets:
                raise SnowflakeError(390303, "Invalid OAuth access token.", "08001")
        case "PROGRAMMATIC_ACCESS_TOKEN":
            if (data.get("TOKEN") or data.get("PASSWORD")) not in secrets:
                raise SnowflakeError(394400, "Programmatic access token is invalid.", "08001")
        case "WORKLOAD_IDENTITY":
            if data.get("TOKEN") not in secrets:
                raise SnowflakeError(394501, "Workload identity is not known.", "08001")
        case _:
            if data.get("PASSWORD") not in secrets:
                raise wrong_password()


def wrong_password() -> SnowflakeError:
    return SnowflakeError(390100, "Incorrect username or password was specified.", "08001")


def session_of(account: Account, token: str | None) -> Session:
    """The session of a request.

    Raises:
        SnowflakeError: the token is unknown or has expired.
    """
    if token in account.sessions:
        return account.sessions[token]
    if token in account.expired:
        raise session_expired()
    raise SnowflakeError(SESSION_GONE, "Session no longer exists. New login required to access the service.", "08001")


def session_expired() -> SnowflakeError:
    return SnowflakeError(SESSION_EXPIRED, "Session token has expired. Session token refresh is needed.", "08001")


def expire(account: Account, session: Session) -> None:
    """Refuse the session's token from now on; the master token can renew it."""
    if account.sessions.pop(session.token, None):
        account.expired[session.token] = session


def renew(account: Account, master_token: str | None) -> dict[str, Any]:
    """A new token for a session.

    Raises:
        SnowflakeError: the master token is nobody's.
    """
    for session in account.everybody():
        if session.master_token == master_token:
            expire(account, session)
            session.renew_token()
            account.sessions[session.token] = session
            return {
                "sessionToken": session.token,
                "validityInSecondsST": _TOKEN_S,
                "masterToken": session.master_token,
                "validityInSecondsMT": _MASTER_S,
                "sessionId": session.number,
            }
    raise SnowflakeError(MASTER_EXPIRED, "Authentication token has expired. The user must authenticate again.", "08001")


async def log_out(account: Account, session: Session) -> None:
    """End a session; it rolls back."""
    for tokens in (account.sessions, account.expired):
        for token in [token for token, owner in tokens.items() if owner is session]:
            del tokens[token]
    await session.close()
