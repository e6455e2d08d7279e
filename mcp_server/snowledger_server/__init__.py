"""The MCP server: tools that answer in milliseconds from local files and never touch the warehouse."""

from ._errors import InvalidArgumentError, NotAllowedError, ServerError
from ._identity import Identity
from ._run import ServerConfig, run
from ._server import build_server
from ._session import serve_stdio
from ._tool import Journal

__all__ = [
    "Identity",
    "InvalidArgumentError",
    "Journal",
    "NotAllowedError",
    "ServerConfig",
    "ServerError",
    "build_server",
    "run",
    "serve_stdio",
]
