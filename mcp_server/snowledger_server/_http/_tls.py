"""The server's certificate."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from ._address import ListenError

if TYPE_CHECKING:
    from pathlib import Path


def tls_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What TLS is spoken with, by Python's own defaults (TLS 1.2 or newer); None where there is no certificate.

    Raises:
        ListenError: certificate and key cannot be used.
    """
    if cert is None:
        if key is not None:
            raise ListenError(f"there is a TLS key, {key}, but no certificate; set http_tls_cert too")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty password: OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "the key is encrypted"
        files = f"{cert}" if key is None else f"{cert} and {key}"
        message = f"the TLS certificate in {files} cannot be used ({reason}); accepted: PEM, and a key without password"
        raise ListenError(message) from error
    return context
