"""All that the HTTP transport needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ._address import HttpAddress


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Where it listens, whom it answers, and how much it takes."""

    address: HttpAddress | None
    """None: the sockets that systemd hands over."""
    tokens_file: Path
    """Who may call; while it is not there and only this machine can, everybody may."""
    allowed_hosts: frozenset[str] = frozenset()
    """Names under which clients reach it, besides those of this machine and the one it listens on."""
    allowed_origins: frozenset[str] = frozenset()
    """Origins of web pages that may call it, besides pages of those hosts."""
    rate_per_s: float = 200.0
    """Calls of one identity, on average; twice as many at once."""
    max_connections: int = 4096
    tls_cert: Path | None = None
    """The certificate chain, PEM; with the key, unless ``tls_key`` has it."""
    tls_key: Path | None = None
    notify_socket: str | None = None
    """Where a service manager listens (sd_notify(3)); None where none does."""
