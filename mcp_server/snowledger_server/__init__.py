"""The MCP server: tools that answer in milliseconds from local files and never touch the warehouse.

A name is loaded when it is asked for: the MCP SDK takes half a second to import, and who edits tokens needs none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._contexts import ContextQuery, Contexts, open_contexts
    from ._errors import (
        InvalidArgumentError,
        NotAllowedError,
        ServerError,
        TicketNotFoundError,
        TokenError,
        TokenFileError,
        UnprotectedError,
    )
    from ._http import HttpAddress, HttpConfig, ListenError, run_http
    from ._identity import Caller, Identity
    from ._journal import Journal, open_journal
    from ._queries import Queries, open_queries
    from ._run import ServerConfig, run
    from ._server import build_server
    from ._session import serve_stdio
    from ._tokens import Grant, Scope, Token, Tokens, add_token, read_tokens, require_protection, revoke_token

__all__ = [
    "Caller",
    "ContextQuery",
    "Contexts",
    "Grant",
    "HttpAddress",
    "HttpConfig",
    "Identity",
    "InvalidArgumentError",
    "Journal",
    "ListenError",
    "NotAllowedError",
    "Queries",
    "Scope",
    "ServerConfig",
    "ServerError",
    "TicketNotFoundError",
    "Token",
    "TokenError",
    "TokenFileError",
    "Tokens",
    "UnprotectedError",
    "add_token",
    "build_server",
    "open_contexts",
    "open_journal",
    "open_queries",
    "read_tokens",
    "require_protection",
    "revoke_token",
    "run",
    "run_http",
    "serve_stdio",
]

_MODULES = {
    "_contexts": ("ContextQuery", "Contexts", "open_contexts"),
    "_errors": (
        *("InvalidArgumentError", "NotAllowedError", "ServerError", "TicketNotFoundError"),
        *("TokenError", "TokenFileError", "UnprotectedError"),
    ),
    "_http": ("HttpAddress", "HttpConfig", "ListenError", "run_http"),
    "_identity": ("Caller", "Identity"),
    "_journal": ("Journal", "open_journal"),
    "_queries": ("Queries", "open_queries"),
    "_run": ("ServerConfig", "run"),
    "_server": ("build_server",),
    "_session": ("serve_stdio",),
    "_tokens": (
        *("Grant", "Scope", "Token", "Tokens"),
        *("add_token", "read_tokens", "require_protection", "revoke_token"),
    ),
}


def __getattr__(name: str) -> object:
    """Load the module that has the name. Raises ``AttributeError`` when none has."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
