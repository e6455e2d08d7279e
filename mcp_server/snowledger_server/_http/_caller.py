"""Who makes a request, and what is recorded of where it came from."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from cachetools import LRUCache
from mcp_types import CLIENT_INFO_META_KEY

from snowledger_queue import Origin
from snowledger_server._identity import Caller, Identity

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from starlette.requests import Request

CLIENT = "snowledger.client"
"""Where a request's scope has its ``Client``."""

HEADERS = "snowledger.headers"
"""And where its headers, by name."""

FALLBACK_SOURCE = "http"

RESERVED_SOURCES = {"snowledger", "import"}
"""What snowledger records for itself; a client that calls itself so must not be taken for it."""

MAX_KEPT = 1_000
"""Clients, and names of programs, of which it is kept what is recorded of them: some 200 KB."""

_MAX_SOURCE = 64
_UNSAFE = re.compile(r"[^a-z0-9._-]+")

_SESSION = re.compile(r"[A-Za-z0-9._~-]{8,128}")
"""Of the visible ASCII that the protocol allows in a session id, what is safe wherever it is shown."""


class Client(NamedTuple):
    """Somebody who was let in."""

    identity: Identity
    key: str
    """Tells this one from others: the token's id, or nothing where no token is needed."""


class Callers:
    """Tells of each request who makes it."""

    def __init__(self, version: str) -> None:
        """``version`` is snowledger's, recorded on every event."""
        self._version = version
        self._process = secrets.token_bytes(16)
        self._sessions: LRUCache[str, str] = LRUCache(MAX_KEPT)

    def __call__(self, context: ServerRequestContext[Any, Request]) -> Caller:
        """The caller of a request that the guards have let through."""
        if context.request is None:
            raise TypeError("only requests over HTTP have a client")
        client: Client = context.request.scope[CLIENT]
        headers: Mapping[bytes, bytes] = context.request.scope[HEADERS]
        session = headers.get(b"mcp-session-id", b"").decode("latin-1")
        if not _SESSION.fullmatch(session):
            session = self._session_of(client)
        return Caller(client.identity, Origin(self._version, session, _source(context.meta, headers)))

    def _session_of(self, client: Client) -> str:
        """The same for all that one client does while this process runs."""
        session = self._sessions.get(client.key)
        if session is None:
            session = hashlib.blake2b(client.key.encode(), key=self._process, digest_size=16).hexdigest()
            self._sessions[client.key] = session
        return session


def _source(meta: Mapping[str, Any] | None, headers: Mapping[bytes, bytes]) -> str:
    """The name the client gives itself, without its version."""
    info = (meta or {}).get(CLIENT_INFO_META_KEY)
    name = info.get("name") if isinstance(info, Mapping) else None
    if not isinstance(name, str):
        name = headers.get(b"user-agent", b"").partition(b"/")[0].decode("latin-1")
    return _cleaned(name[:_MAX_SOURCE])


@lru_cache(MAX_KEPT)
def _cleaned(name: str) -> str:
    cleaned = _UNSAFE.sub("-", name.lower()).strip("-")
    return FALLBACK_SOURCE if not cleaned or cleaned in RESERVED_SOURCES else cleaned
