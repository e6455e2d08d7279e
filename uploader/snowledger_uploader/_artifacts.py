"""The files of results: how one gets its name, and how long it is kept."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from snowledger_queue import StateError, timestamp

if TYPE_CHECKING:
    from pathlib import Path

    from snowledger_queue import Spool, Tickets

log = logging.getLogger(__name__)

FORMAT = "parquet"

PRUNE_S = 3600.0

PRUNE_SHARE = 0.1
"""New files of this share of what may be kept bring the next pruning forward."""


def artifact_path(spool: Spool, ticket_id: str) -> Path:
    """Where the result of a ticket is."""
    return spool.artifacts / f"{ticket_id}.{FORMAT}"


def artifact_sizes(spool: Spool) -> dict[str, int]:
    """The bytes of each file by ticket id. Raises ``OSError`` when the folder cannot be read."""
    sizes = {}
    with os.scandir(spool.artifacts) as entries:
        for entry in entries:
            stem, _, suffix = entry.name.rpartition(".")
            if suffix == FORMAT:
                with suppress(FileNotFoundError):  # deleted since the listing
                    sizes[stem] = entry.stat(follow_symlinks=False).st_size
    return sizes


class Artifacts:
    """The artifacts of a spool, as the one who writes them sees them."""

    def __init__(self, spool: Spool, tickets: Tickets, max_age_days: float, max_bytes: int) -> None:
        """``max_age_days`` is for tickets too, ``max_bytes`` for all files together."""
        self._spool = spool
        self._tickets = tickets
        self._max_age_days = max_age_days
        self._max_bytes = max_bytes
        self._new_bytes = 0
        self._prune_now = anyio.Event()

    async def prune_at_times(self) -> None:
        """Prune now, every hour, and when there is much that is new; until cancelled."""
        while True:
            self._new_bytes = 0
            self._prune_now = anyio.Event()
            await to_thread.run_sync(self._prune)
            with anyio.move_on_after(PRUNE_S):
                await self._prune_now.wait()

    def added(self, size: int) -> None:
        """Count a new file."""
        self._new_bytes += size
        if self._new_bytes > self._max_bytes * PRUNE_SHARE:
            self._prune_now.set()

    # What follows is blocking and runs in a worker thread.

    def keep(self, ticket_id: str, path: Path) -> Path:
        """Give a whole file its place, on stable storage; it has the name only then. Raises ``OSError``."""
        target = artifact_path(self._spool, ticket_id)
        path.chmod(0o600)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        path.replace(target)
        self._spool.filesystem.sync_folder(self._spool.artifacts)
        return target

    def remove(self, ticket_id: str) -> None:
        """Delete the file of a ticket. One that cannot be deleted is logged, and tried again by the next pruning."""
        path = artifact_path(self._spool, ticket_id)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot delete %s: %s", path, error.strerror or error)

    def _prune(self) -> None:
        """Delete old tickets, and the files that are old, nobody's or beyond what may be kept."""
        now = timestamp(datetime.now(UTC))
        try:
            pruned = self._tickets.prune(now, artifact_sizes(self._spool), self._max_bytes, self._max_age_days)
        except (OSError, StateError) as error:
            log.warning("old results cannot be deleted: %s", error)
            return
        for ticket_id in pruned.artifacts:
            self.remove(ticket_id)
        if any(pruned):
            log.info("deleted %d tickets and %d artifacts", pruned.tickets, len(pruned.artifacts))
