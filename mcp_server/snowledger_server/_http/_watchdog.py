"""What a service manager is told of the server, so that its watchdog ends one that hangs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from snowledger_queue import Notifier

ALIVE_S = 10.0
"""A third of what the watchdog waits: a beat may come late, and one may be missed."""


async def tell_progress(notifier: Notifier) -> None:
    """Say again and again that the event loop goes on, until cancelled."""
    while True:
        notifier.progressed()
        await anyio.sleep(ALIVE_S)
