"""Events that the uploader logs itself: they go through the queue, as everybody's do."""

from __future__ import annotations

import logging
import secrets
import time
from threading import Lock
from typing import TYPE_CHECKING

from snowledger_ddl import applied_features
from snowledger_queue import OPERATIONAL_CUSTOMER, SegmentName, new_event, write_small_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snowledger_ddl import Statement
    from snowledger_queue import Event, Origin, Spool

log = logging.getLogger(__name__)


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

    def schema_applied(self, origin: Origin, warehouse: str, ran: Sequence[Statement]) -> None:
        """Tell the versions of the objects that were just brought up to date; they are in the warehouse either way."""
        features = applied_features(warehouse, ran)
        event = new_event(origin, activity="cdesk.schema_applied", customer=OPERATIONAL_CUSTOMER, feature_json=features)
        try:
            self.put(event)
        except OSError as error:
            log.warning("the schema was brought up to date, but that could not be logged: %s", error)
