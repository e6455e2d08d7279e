"""Whether a server may listen where it is told to."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from snowledger_server._errors import UnprotectedError

if TYPE_CHECKING:
    from ._tokens import Tokens


def require_protection(host: str, tokens: Tokens) -> None:
    """Check that no other machine could call without a token. ``host`` is an address or a name to bind to.

    Raises:
        UnprotectedError: another machine can reach the address, and no token is there to tell callers apart.
    """
    if not _is_loopback(host) and not tokens.required():
        raise UnprotectedError(host)


def _is_loopback(host: str) -> bool:
    """False for whatever is not known to be this machine alone, such as a name that a resolver decides on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
