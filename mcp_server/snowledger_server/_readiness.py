"""Whether the server should be sent calls; if not, why, in words that anybody may hear."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, move_on_after, to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from snowledger_queue import Spool

LOOK_S = 1.0
"""How often the spool is tried at most, for whoever asks needs no token; and for how long a try may last."""

_PROBE = ".probe"
"""No segment's name, so nobody else looks at it."""


class Readiness:
    """Looks at what a call needs."""

    def __init__(self, spool: Spool, *checks: Callable[[], str | None]) -> None:
        """``checks`` give a reason each, or None; they are quick and never raise."""
        self._spool = spool
        self._checks = checks
        self._writable = True
        self._look_at = float("-inf")
        self._tried_at: float | None = None
        """Since when a try is out: a disk that hangs does not give its thread back, and shall get no other."""
        self.leaving = False
        """Set when the server ends."""

    async def reasons(self) -> list[str]:
        """Why no calls should be sent here; nothing when all is well."""
        now = time.monotonic()
        if self._tried_at is None and now >= self._look_at:
            self._look_at = now + LOOK_S
            self._tried_at = now
            with move_on_after(LOOK_S):
                await to_thread.run_sync(self._look, abandon_on_cancel=True, limiter=CapacityLimiter(1))
        tried_at = self._tried_at
        hangs = tried_at is not None and time.monotonic() - tried_at >= LOOK_S
        found = ["shutting down"] if self.leaving else []
        found += ["the spool cannot be written"] if hangs or not self._writable else []
        return found + [reason for check in self._checks if (reason := check()) is not None]

    def _look(self) -> None:
        self._writable = self._can_write()
        self._tried_at = None

    def _can_write(self) -> bool:
        """Whether a file can be made where events go."""
        files, probe = self._spool.filesystem, self._spool.queue / _PROBE
        try:
            with suppress(FileExistsError):  # another server looks too, or was killed while it did
                file = files.create(probe)
                if file is not None:
                    with closing(file):
                        file.write(b"1")
            files.remove(probe)
        except OSError:
            return False
        return True
