"""How sessions begin: by the connection's name, and not again and again with credentials that are not accepted."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio import to_thread

from ._errors import load_error
from ._session import Session

if TYPE_CHECKING:
    from snowflake.connector.errors import Error

    from snowledger_uploader._errors import UploaderError

    from ._config import SnowflakeConfig

log = logging.getLogger(__name__)

RETRY_LOGIN_S = 300.0
"""After a refused login, until the next: Snowflake locks a user for 15 minutes after five, and this makes three."""


class Explain(Protocol):
    """Makes our error of the connector's: ``load_error`` or ``query_error``."""

    def __call__(self, error: Error, *, login: bool) -> UploaderError:
        """Whether it came of a login is part of what it means."""
        ...


class Login:
    """Opens sessions for the loader and for queries alike, one at a time."""

    def __init__(self, config: SnowflakeConfig) -> None:
        self._config = config
        self._refused: Error | None = None
        self._retry_at = 0.0
        self._looked = False
        self._one = anyio.Lock()
        # What the connector logs may hold statements and values; its errors say all that is needed.
        logging.getLogger("snowflake").propagate = False

    async def session(self, tag: str, *, autocommit: bool = True, explain: Explain = load_error) -> Session:
        """A new session. See ``Session.connect``; for a while after a refused login it raises without another one."""

        def heard(error: Error) -> UploaderError:
            if not load_error(error, login=True).transient:
                self._refused = error
                self._retry_at = time.monotonic() + RETRY_LOGIN_S
            return explain(error, login=True)

        async with self._one:
            if self._refused is not None and time.monotonic() < self._retry_at:
                raise explain(self._refused, login=True) from self._refused
            if not self._looked:
                self._looked = True
                await to_thread.run_sync(_warn_of_password, self._config.connection)
            session = await Session.connect(self._config, tag, autocommit=autocommit, explain=heard)
            self._refused = None
            return session


def _warn_of_password(name: str) -> None:
    """Blocking. An entry that cannot be read is the connector's to complain of."""
    from snowflake.connector.config_manager import CONFIG_MANAGER
    from snowflake.connector.errors import Error

    try:
        entries = CONFIG_MANAGER["connections"]
        entry = entries.get(name, {}) if isinstance(entries, dict) else {}
    except Error:
        return
    if entry.get("password") and str(entry.get("authenticator") or "snowflake").lower() == "snowflake":
        log.warning(
            "the connection %s logs in with a password, which Snowflake refuses to service users: use a key pair "
            "(authenticator = SNOWFLAKE_JWT), a programmatic access token, OAuth or workload identity",
            name,
        )
