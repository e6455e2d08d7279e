"""Where the server listens: an address of its own, or sockets that systemd hands over."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, Self

from snowledger_server._errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

SYSTEMD = "systemd"

FIRST_HANDED_OVER = 3
"""The first file descriptor that systemd passes (sd_listen_fds(3))."""

BACKLOG = 2048
"""Connections that wait to be accepted; the kernel takes its own limit (``net.core.somaxconn``) if that is less."""

_MAX_PORT = 65535


class ListenError(ServerError):
    """The server cannot listen where it is told to."""


class HttpAddress(NamedTuple):
    """An address to listen on."""

    host: str
    """A name, or an IP address without brackets."""
    port: int
    """0: one that is free."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """``HOST:PORT``, with an IPv6 address in brackets; None for ``systemd``.

        Raises:
            ListenError: it is none of them.
        """
        if text == SYSTEMD:
            return None
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = ""
        if not (host and colon and port.isascii() and port.isdecimal() and int(port[:6]) <= _MAX_PORT):
            message = (
                f"cannot listen on {text!a}; accepted: HOST:PORT such as 127.0.0.1:8787, localhost:0 or [::1]:8787, "
                f"or {SYSTEMD} for a socket that it hands over"
            )
            raise ListenError(message)
        return cls(host, int(port))


def listen(address: HttpAddress | None, environment: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """Open the sockets to accept on: all addresses that the host has, or what systemd hands over.

    Raises:
        ListenError: an address cannot be had, or nothing was handed over.
    """
    return _handed_over(environment) if address is None else _bound(address)


def shown(listener: socket.socket) -> str:
    """The address of a listening socket as part of a URL."""
    name = listener.getsockname()
    if listener.family == socket.AF_INET6:
        return f"[{name[0]}]:{name[1]}"
    return f"{name[0]}:{name[1]}" if listener.family == socket.AF_INET else str(name)


def _bound(address: HttpAddress) -> list[socket.socket]:
    with ExitStack() as undo:
        listeners: list[socket.socket] = []
        try:
            for family, name in _resolved(address):
                # Of several addresses all have the port that the first one got.
                port = listeners[0].getsockname()[1] if listeners else address.port
                opened = socket.create_server((name, port), family=family, backlog=BACKLOG)
                # Found out anew, its protocol is TCP by name; else asyncio would let Nagle's algorithm hold answers
                # back for 40 ms.
                listener = socket.socket(fileno=opened.detach())
                undo.callback(listener.close)
                listeners.append(listener)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "the name is not one"
            hint = "; another port may be free" if getattr(error, "errno", 0) == errno.EADDRINUSE else ""
            message = f"cannot listen on {address.host}:{address.port}: {reason}{hint}"
            raise ListenError(message) from error
        undo.pop_all()
    return listeners


def _resolved(address: HttpAddress) -> Iterable[tuple[int, str]]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return dict.fromkeys((family, str(place[0])) for family, _, _, _, place in found)


def _handed_over(environment: MutableMapping[str, str]) -> list[socket.socket]:
    # Ours alone: a process that we start must not take them for its own.
    process, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdecimal() or not int(count):
        message = "systemd has handed over no socket; start it through a .socket unit, or give an address: HOST:PORT"
        raise ListenError(message)
    listeners = []
    for number in range(FIRST_HANDED_OVER, FIRST_HANDED_OVER + int(count)):
        try:
            os.set_inheritable(number, False)  # noqa: FBT003 - the interface
            listener = socket.socket(fileno=number)
            listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            message = f"file descriptor {number}, which systemd handed over, is not a socket: {error.strerror}"
            raise ListenError(message) from error
        if not listening or listener.type != socket.SOCK_STREAM:
            message = f"file descriptor {number}, which systemd handed over, does not accept: ListenStream= is needed"
            raise ListenError(message)
        listeners.append(listener)
    return listeners
