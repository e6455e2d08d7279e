"""``snowledger upload``: one process per spool that drains it, as a daemon or once."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from snowledger_queue import (
    BatchStatus,
    ProcessLock,
    Spool,
    UploaderStatus,
    live_servers,
    open_spool,
    read_uploader_status,
    timestamp,
    write_uploader_status,
)

from ._back_end import make_origin, make_warehouse, private_files
from ._config import UploaderConfig
from ._contexts import Contexts
from ._deliver import Delivery
from ._drain import Drain, DrainedBatch
from ._errors import (
    AuthenticationNeededError,
    LockLostError,
    UploaderError,
    UploadStoppedError,
    WarehouseRefusedError,
    WarehouseUnavailableError,
)
from ._notify import Notifier
from ._queries import QueryRunner
from ._watched import WatchedWarehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from snowledger_queue import SealedSegment

log = logging.getLogger(__name__)

POLL_S = 0.1
"""How often an idle uploader looks for sealed segments; a look costs some 50 µs and adds at most this to the lag."""

STOP_S = 10.0
"""After SIGTERM a running batch gets this long to finish before it is rolled back (systemd's default is 90 s)."""

GIVE_UP_S = 30.0
"""How long a batch is tried while the warehouse is locked or away. Then ``upload --once`` ends with the reason, and the
daemon forms the batch anew, for one of its files may be what is wrong."""

RETRY_S = 15.0
"""How often the daemon tries again what only an operator can mend. (The warehouse spaces refused logins further.)"""

LOGIN_NEEDED = "authentication needed"
"""The state of an uploader whose credentials the warehouse does not accept."""


def run(config: UploaderConfig, progress: Callable[[int, int], None] | None = None) -> UploaderStatus:
    """Drain the spool until a signal comes, or as the config says; return the final status.

    ``progress`` hears (events done, events to do) after each batch.

    Raises:
        snowledger_queue.LockHeldError: another uploader has the spool; the message names it.
        snowledger_queue.SpoolError: the spool cannot be used.
        UploaderError: the warehouse cannot be used as it is; with ``once``, it did not take a batch or there was no
            time to; or the lock was lost. What is not loaded is still queued.
        OSError: dead letters cannot be kept, or the queue cannot be read; nothing was deleted.
    """
    with private_files():
        spool = open_spool(config.home)
        lock = ProcessLock.acquire(spool.uploader_lock, "uploader")
        try:
            shutil.rmtree(spool.work)
            spool.work.mkdir(exist_ok=True)  # whoever opens the spool at this moment makes it as well
            return anyio.run(_Uploader(config, spool, lock, progress).run)
        finally:
            lock.release()


class _Uploader:
    """The process's state and loop."""

    def __init__(
        self,
        config: UploaderConfig,
        spool: Spool,
        lock: ProcessLock,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._config = config
        self._spool = spool
        self._lock = lock
        self._progress = progress
        self._stop = anyio.Event()
        self._started_s = time.time()
        before = read_uploader_status(spool)
        last_batch = None if before is None else before.last_batch
        self._status = UploaderStatus(pid=os.getpid(), state="starting", updated_at="", last_batch=last_batch)
        origin = make_origin(config)
        self._notifier = Notifier(config.notify_socket)
        # By the writer of the uploader's other events, none of which are counted as loaded.
        warehouse = make_warehouse(
            config, spool, origin, lambda ran: self._contexts.events.schema_applied(origin, "duckdb", ran)
        )
        self._warehouse = WatchedWarehouse(warehouse, self._notifier.progressed)
        self._contexts = Contexts(spool, self._warehouse, origin, self._stop, config.refresh_interval_s)
        self._queries = QueryRunner(
            *(spool, self._warehouse, self._contexts.events, origin, config.limits),
            *(config.templates_dir, config.duckdb_path.stem if config.snowflake is None else None),
        )

    async def run(self) -> UploaderStatus:
        delivery = Delivery(self._warehouse, self._stop, self._waits)
        drain = Drain(self._spool, self._warehouse, delivery, GIVE_UP_S, self._contexts)
        failure: UploaderError | OSError | None = None
        finished = False
        querying = anyio.CancelScope()
        async with anyio.create_task_group() as tasks:
            if sys.platform != "win32":
                tasks.start_soon(self._watch_signals, tasks.cancel_scope, querying, name="uploader signals")
            try:
                await self._work(drain, querying)
                finished = True
            except UploadStoppedError as error:
                log.info("%s", error)
            except (UploaderError, OSError) as error:
                failure = error
            with anyio.move_on_after(STOP_S):
                await self._warehouse.rest(over=True)
            tasks.cancel_scope.cancel()
        self._notifier.tell(STOPPING="1")
        if failure is None and not finished and self._config.once:
            failure = UploadStoppedError("stopped; what is not loaded yet is still in the queue")
        await self._warehouse.close()
        await self._contexts.close()
        self._set(state="stopped", problem=self._status.problem if failure is None else str(failure))
        if failure is not None:
            raise failure
        return self._status

    async def _work(self, drain: Drain, querying: anyio.CancelScope) -> None:
        """Load, and run queries meanwhile."""
        failure: UploaderError | OSError | None = None
        async with anyio.create_task_group() as tasks:
            try:
                await self._open()
                self._notifier.tell(READY="1")
                tasks.start_soon(self._run_queries, querying, name="queries")
                await self._loop(drain)
            except (UploaderError, OSError) as error:  # a task group would wrap it
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _open(self) -> None:
        """Find out whether the warehouse can be used at all; that it cannot be now is no obstacle."""
        try:
            await self._warehouse.open()
        except WarehouseUnavailableError as error:
            log.warning("%s", error)
        except UploaderError as error:
            # A restart would mend nothing, and this process spaces its attempts. But of what somebody has to mend for
            # sure, whoever starts it hears at once.
            login = isinstance(error, AuthenticationNeededError)
            if self._config.once or (isinstance(error, WarehouseRefusedError) and not login):
                raise
            log.error("%s", error)  # noqa: TRY400 - an operator's line
            self._waits(error)
            return
        self._set(state="idle")

    async def _run_queries(self, scope: anyio.CancelScope) -> None:
        """Never raises: without queries, events are still loaded."""
        with scope:
            try:
                await self._queries.run(check=not self._config.once)
            except Exception:
                log.exception("no query is run any more; restart the uploader")

    async def _loop(self, drain: Drain) -> None:
        while True:
            self._notifier.progressed()
            if not self._lock.held():
                message = f"{self._spool.uploader_lock} is gone; stopping before a second uploader starts"
                raise LockLostError(message)
            # Before the queue: a query that ends leaves events there.
            quiet = self._queries.quiet()
            segments = await drain.waiting()
            if self._stop.is_set():
                if segments:
                    raise UploadStoppedError("stopped; what is not loaded yet is still in the queue")
                return
            if segments and not self._collects(segments):
                await self._drain(drain, segments)
                continue
            # Not before what waits at the start is drained: some of it may have been loaded already, and a server would
            # count that twice, in the queue and in the contexts, until its segments are named as covered.
            reason = None if segments else self._contexts.due()
            if reason is not None:
                await self._contexts.refresh(reason)
                continue
            await self._warehouse.rest()
            self._rests(drain.problem())
            asked = quiet is None or quiet != self._queries.quiet()
            if self._config.once and not asked:
                return
            # Another look at the queue, which finds what the last server sealed before it went.
            unused = self._config.exit_when_unused and not live_servers(self._spool) and not drain.has_writers()
            if unused and not asked and not await drain.waiting() and quiet == self._queries.quiet():
                return
            with anyio.move_on_after(POLL_S):
                await self._stop.wait()

    def _collects(self, segments: Sequence[SealedSegment]) -> bool:
        """Whether the segments shall wait for others: they are few, and young enough.

        What an earlier process left has waited: whoever started this one may ask for it.
        """
        oldest_s = min(segment.name.opened_ms for segment in segments) / 1000
        if self._config.once or time.time() - oldest_s >= self._config.batch_age_s or oldest_s < self._started_s:
            return False
        if self._config.exit_when_unused and not live_servers(self._spool):
            return False
        size = sum(self._spool.filesystem.size(segment.path) for segment in segments)
        return size < self._warehouse.batch_bytes

    def _rests(self, problem: str | None) -> None:
        """Say that there is nothing to do, unless the warehouse has to be made accessible first."""
        failure = self._contexts.failure
        if isinstance(failure, AuthenticationNeededError):
            state, problem = LOGIN_NEEDED, str(failure)
        else:
            state = "idle"
        if self._status != self._current(state=state, problem=problem):
            self._set(state=state, problem=problem)

    async def _drain(self, drain: Drain, segments: Sequence[SealedSegment]) -> None:
        # Who has to log in stays told so while it is tried.
        if self._status.state not in {"loading", LOGIN_NEEDED}:
            self._set(state="loading")
        try:
            drained = await drain.drain_batch(segments)
        except UploaderError as error:
            if self._config.once or isinstance(error, UploadStoppedError):
                raise
            log.error("%s", error)  # noqa: TRY400 - an operator's line
            self._waits(error)
            if not error.transient:
                with anyio.move_on_after(RETRY_S):
                    await self._stop.wait()
            return
        if drained.events or drained.dead_letters:
            self._count(drained)
        if self._progress is not None:
            ahead = sum(segment.events for segment in self._spool.sealed_segments())
            self._progress(self._status.events, self._status.events + ahead)

    async def _watch_signals(self, scope: anyio.CancelScope, querying: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                if self._stop.is_set():
                    log.warning("%s again: rolling back", signal.Signals(number).name)
                    scope.cancel()
                    return
                log.info("%s: finishing the running batch", signal.Signals(number).name)
                self._stop.set()
                querying.cancel()  # they go back into the queue
                scope.deadline = anyio.current_time() + STOP_S

    def _waits(self, error: UploaderError) -> None:
        login = isinstance(error, AuthenticationNeededError)
        self._set(state=LOGIN_NEEDED if login else "waiting", problem=str(error))

    def _count(self, drained: DrainedBatch) -> None:
        status = self._status
        last = BatchStatus(
            drained.batch_id,
            drained.events,
            drained.inserted,
            timestamp(datetime.now(UTC)),
            round(drained.seconds, 3),
            round(drained.lag_s, 3),
        )
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
        self._status = self._current(updated_at=timestamp(datetime.now(UTC)), **changes)
        self._notifier.tell(STATUS=_summary(self._status))
        try:
            write_uploader_status(self._spool, self._status)
        except OSError as error:
            log.warning("cannot write %s: %s", self._spool.uploader_status, error)

    def _current(self, **changes: object) -> UploaderStatus:
        contexts = {"contexts_as_of": self._contexts.as_of, "contexts_problem": self._contexts.problem}
        return replace(self._status, **contexts, **changes)  # type: ignore[arg-type]


def _summary(status: UploaderStatus) -> str:
    """The status for people, in one line."""
    if status.problem is not None:
        return f"{status.state}: {status.problem}"
    return f"{status.state}; {status.events:,} events in {status.batches:,} batches since the start"
