"""Which names a request may use for this server: what keeps a web page from reaching it through a name of its own.

A page whose name was pointed at this machine (DNS rebinding) sends that name as ``Host``, and any page that a browser
shows sends its ``Origin``. See
https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#security-warning.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ._refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:/?#@\s]+))(?::[0-9]{1,5})?")
_ORIGIN = re.compile(r"https?://(.+)")

_PROXIES = frozenset({b"forwarded", b"via", b"x-real-ip"})

_WRONG_HOST = Refusal(421, "This server does not go by that name; its operator can add it to http_allowed_hosts.")
_WRONG_ORIGIN = Refusal(403, "Pages of that origin may not call; the server's operator can add it.")


def forwarded(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a proxy says that it passes this on, for somebody who may be anywhere.

    Its own name for this server is often ``localhost``, so ``Host`` does not tell.
    """
    return any(name in _PROXIES or name.startswith(b"x-forwarded-") for name in headers)


class Hosts:
    """The names that are accepted, with any port."""

    def __init__(self, names: Iterable[str], origins: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in (*LOOPBACK_NAMES, *names))
        self._origins = frozenset(origin.lower() for origin in origins)

    def refusal(self, headers: Mapping[bytes, bytes], address: str | None) -> Refusal | None:
        """Why the request is not for this server; None when it is.

        ``address`` is the one the client has connected to: as a number it is no name that could be pointed elsewhere.
        """
        if not self._accepts(headers.get(b"host", b"").decode("latin-1").lower(), address):
            return _WRONG_HOST
        origin = headers.get(b"origin")
        if origin is None:
            return None
        text = origin.decode("latin-1").lower()
        found = _ORIGIN.fullmatch(text)
        if text in self._origins or (found is not None and self._accepts(found[1], address)):
            return None
        return _WRONG_ORIGIN

    def _accepts(self, host: str, address: str | None) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1] or found[2]
        return name in self._names or name == address
