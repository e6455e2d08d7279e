"""MCP over HTTP: many clients, each let in by name, none of whom can hold up the others.

A request goes through the guards of ``_app`` in the order of what they cost, and only then to the SDK's handler, which
serves both protocol eras, stateless and in JSON. Below it, ``_accept`` and ``_connections`` see to connections that
are slow, idle or too many.
"""

from ._address import HttpAddress, ListenError
from ._config import HttpConfig
from ._run import run_http

__all__ = ["HttpAddress", "HttpConfig", "ListenError", "run_http"]
