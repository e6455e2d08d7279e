"""Events that the uploader logs itself: they go through the queue, as everybody's do."""

from __future__ import annotations

import secrets
import time
from threading import Lock
from typing import TYPE_CHECKING

from snowledger_queue import SegmentName, write_small_file

if TYPE_CHECKING:
    from snowledger_queue import Event, Spool


class OwnEvents:
    """Leaves each lot of events in a sealed segment of its own. Blocking; threads may share it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.writer = secrets.token_hex(6)
        """Names the segments."""
        self._turn = Lock()
        self._segments = 0

    def put(self, *events: Event) -> None:
        """Have them on stable storage. Raises ``OSError``; then none of them is in the queue."""
        with self._turn:
            self._segments += 1
            sequence = self._segments
        name = SegmentName(time.time_ns() // 1_000_000, self.writer, sequence, None).sealed(len(events))
        # Whole before it has its name; what a crash leaves is deleted with the other scratch files.
        write_small_file(self._spool.work / name, b"".join(event.line for event in events), self._spool.filesystem)
        self._spool.filesystem.rename(self._spool.work / name, self._spool.queue / name)
        self._spool.filesystem.sync_folder(self._spool.queue)
