"""A query that runs, as the runner knows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

    from snowledger_queue import Ticket


@dataclass(slots=True)
class Running:
    """A query that runs."""

    ticket: Ticket
    scope: anyio.CancelScope
    begun: float = field(default_factory=time.monotonic)
    rows: int = 0
    cancelled: bool = False
    """Somebody wants it to end."""
    problem: str | None = None
    """Why the warehouse could not be asked the last time."""
    logged: bool = False
    """Its end is in the queue."""

    def watcher(self, answered: Callable[[], None]) -> Callable[[int, int], None]:
        """What the warehouse tells its progress to, rows and bytes; ``answered`` is called, too."""

        def watch(rows: int, _bytes: int) -> None:
            self.rows = rows
            self.problem = None  # it is being asked, and not just tried whether it can be
            answered()

        return watch
