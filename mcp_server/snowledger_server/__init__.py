"""The MCP server: tools that answer in milliseconds from local files and never touch the warehouse."""

from ._contexts import ContextQuery, Contexts, open_contexts
from ._errors import InvalidArgumentError, NotAllowedError, ServerError, TicketNotFoundError
from ._identity import Identity
from ._queries import Queries, open_queries
from ._run import ServerConfig, run
from ._server import build_server
from ._session import serve_stdio
from ._tool import Journal

__all__ = [
    "ContextQuery",
    "Contexts",
    "Identity",
    "InvalidArgumentError",
    "Journal",
    "NotAllowedError",
    "Queries",
    "ServerConfig",
    "ServerError",
    "TicketNotFoundError",
    "build_server",
    "open_contexts",
    "open_queries",
    "run",
    "serve_stdio",
]
