"""Telling a service manager how a server or the uploader is doing, in the protocol of sd_notify(3).

One datagram of ``NAME=value`` lines to the AF_UNIX socket that ``NOTIFY_SOCKET`` names; an ``@`` at its beginning
stands for the NUL of an abstract address. systemd promises that this protocol stays
(https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html), and it is less code than a library's use.
"""

from __future__ import annotations

import logging
import socket
import time

log = logging.getLogger(__name__)

PROGRESS_S = 1.0
"""Progress is told no more often: the drain loop makes ten rounds a second; a watchdog waits half a minute."""

VALUE_CHARS = 500
"""Of a value; systemd ignores a message of more than 4,096 bytes, and all that is in it."""


class Notifier:
    """Tells the service manager; without an address it tells nobody. Never raises, never waits."""

    def __init__(self, address: str | None) -> None:
        """``address`` is the value of ``NOTIFY_SOCKET``."""
        self._address = f"\0{address[1:]}" if address is not None and address.startswith("@") else address
        self._untold: dict[str, str] = {}
        self._progress_at = float("-inf")
        self._failed = False

    def tell(self, **values: str) -> None:
        """Send the values, such as ``READY="1"``; what cannot be sent now goes with what is told next."""
        if self._address is None:
            return
        # One line each: a line break in an error's text would begin another assignment.
        self._untold |= {name: " ".join(value.split())[:VALUE_CHARS] for name, value in values.items()}
        message = "\n".join(f"{name}={value}" for name, value in self._untold.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)  # noqa: FBT003 - the interface
                sender.sendto(message.encode(errors="backslashreplace"), self._address)
        except OSError as error:
            if not self._failed:
                log.warning("cannot tell the service manager how it goes: %s", error)
            self._failed = True
        else:
            self._untold = {}
            self._failed = False

    def progressed(self) -> None:
        """The loop got one step further, which is what feeds the watchdog. Takes microseconds."""
        now = time.monotonic()
        if now - self._progress_at >= PROGRESS_S:
            self._progress_at = now
            self.tell(WATCHDOG="1")
