"""What the uploader says of itself: in its status file, and to a service manager."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from snowledger_queue import (
    BatchStatus,
    UploaderStatus,
    correlated,
    read_uploader_status,
    timestamp,
    write_uploader_status,
)

from ._errors import AuthenticationNeededError
from ._warehouse import batch_tag

if TYPE_CHECKING:
    from snowledger_queue import Notifier, Spool

    from ._breaker import Breaker
    from ._contexts import Contexts
    from ._drain import DrainedBatch
    from ._errors import UploaderError

log = logging.getLogger(__name__)

LOGIN_NEEDED = "authentication needed"
"""The state of an uploader whose credentials the warehouse does not accept."""


class StatusBoard:
    """Keeps the status and shows each change of it."""

    def __init__(self, spool: Spool, contexts: Contexts, breaker: Breaker, notifier: Notifier) -> None:
        self._spool = spool
        self._contexts = contexts
        self._breaker = breaker
        self._notifier = notifier
        before = read_uploader_status(spool)
        last_batch = None if before is None else before.last_batch
        self.status = UploaderStatus(pid=os.getpid(), state="starting", updated_at="", last_batch=last_batch)

    def idle(self) -> None:
        """Nothing has been done yet, and nothing is in the way."""
        self._set(state="idle")

    def loads(self) -> None:
        """A batch is about to be loaded."""
        # Who has to log in stays told so while it is tried.
        if self.status.state not in {"loading", LOGIN_NEEDED}:
            self._set(state="loading")

    def waits(self, error: UploaderError) -> None:
        """The warehouse cannot be used, for now or until somebody acts."""
        login = isinstance(error, AuthenticationNeededError)
        self._set(state=LOGIN_NEEDED if login else "waiting", problem=str(error))

    def rests(self, problem: str | None) -> None:
        """There is nothing to do, unless the warehouse has to be made accessible first."""
        failure = self._contexts.failure
        if isinstance(failure, AuthenticationNeededError):
            state, problem = LOGIN_NEEDED, str(failure)
        else:
            state = "idle"
        if self.status != self._current(state=state, problem=problem):
            self._set(state=state, problem=problem)

    def stopped(self, failure: Exception | None) -> None:
        """The process ends."""
        self._set(state="stopped", problem=self.status.problem if failure is None else str(failure))

    def refresh(self) -> None:
        """Something beside the loading has changed."""
        self._set()

    def count(self, drained: DrainedBatch) -> None:
        """A batch was drained."""
        status = self.status
        last = BatchStatus(
            drained.batch_id,
            drained.events,
            drained.inserted,
            timestamp(datetime.now(UTC)),
            round(drained.seconds, 3),
            round(drained.lag_s, 3),
        )
        with correlated(batch_tag(drained.batch_id)):
            log.info(
                "batch %.8s: %d events, %d new, %d dead letters, %.2f s, lag %.2f s",
                *(drained.batch_id, drained.events, drained.inserted),
                *(drained.dead_letters, drained.seconds, drained.lag_s),
            )
        self._set(
            state="loading",
            problem=None,
            batches=status.batches + 1,
            events=status.events + drained.events,
            inserted=status.inserted + drained.inserted,
            dead_letters=status.dead_letters + drained.dead_letters,
            last_batch=last,
        )

    def _set(self, **changes: object) -> None:
        """Change the status and show it; a status that cannot be written must not stop the drain."""
        self.status = self._current(updated_at=timestamp(datetime.now(UTC)), **changes)
        self._notifier.tell(STATUS=_summary(self.status))
        try:
            write_uploader_status(self._spool, self.status)
        except OSError as error:
            log.warning("cannot write %s: %s", self._spool.uploader_status, error)

    def _current(self, **changes: object) -> UploaderStatus:
        others = {
            "contexts_as_of": self._contexts.as_of,
            "contexts_problem": self._contexts.problem,
            "breaker": self._breaker.status(),
        }
        return replace(self.status, **others, **changes)  # type: ignore[arg-type]


def _summary(status: UploaderStatus) -> str:
    """The status for people, in one line."""
    if status.problem is not None:
        return f"{status.state}: {status.problem}"
    return f"{status.state}; {status.events:,} events in {status.batches:,} batches since the start"
