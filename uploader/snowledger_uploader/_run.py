"""``snowledger upload``: one process per spool that drains it, as a daemon or once."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from snowledger_queue import (
    Notifier,
    ProcessLock,
    QueueError,
    Spool,
    UploaderStatus,
    live_servers,
    open_spool,
)

from ._back_end import make_origin, make_warehouse, private_files
from ._breaker import MAX_FILE_PAUSE_S, MAX_PAUSE_S, Breaker
from ._breaker_events import BreakerEvents
from ._config import UploaderConfig
from ._contexts import Contexts
from ._deliver import Delivery
from ._drain import Drain
from ._drift import DriftAlert
from ._errors import (
    AuthenticationNeededError,
    LockLostError,
    UploaderError,
    UploadStoppedError,
    WarehouseRefusedError,
    WarehouseUnavailableError,
)
from ._observed import Observed
from ._queries import QueryRunner
from ._status_board import StatusBoard
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

DISK_RETRY_S = 2.0
"""How often the daemon tries again to keep dead letters or to delete segments where the disk refuses, for it is full
for one; what is loaded again meanwhile is known by its ids."""


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
            uploader = _Uploader(config, spool, lock, progress)
            with uploader.observed.shown():
                return anyio.run(uploader.run)
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
        origin = make_origin(config)
        self._origin = origin
        self._notifier = Notifier(config.notify_socket)
        self.observed = Observed(config, spool, lambda: self._board.status)
        # By the writer of the uploader's other events, none of which are counted as loaded.
        warehouse = make_warehouse(
            config, spool, origin, lambda ran: self._contexts.events.schema_applied(origin, "duckdb", ran)
        )
        self._warehouse = WatchedWarehouse(warehouse, self._notifier.progressed)
        self._breaker = Breaker(MAX_FILE_PAUSE_S if config.snowflake is None else MAX_PAUSE_S)
        self._contexts = Contexts(spool, self._warehouse, origin, self._stop, config.refresh_interval_s, self._breaker)
        self._board = StatusBoard(spool, self._contexts, self._breaker, self._notifier)
        self._breaker_events = BreakerEvents(self._breaker, self._contexts.events, origin)
        self._breaker.on_change = self._breaker_changed
        self._queries = QueryRunner(
            *(spool, self._warehouse, self._contexts.events, origin, config.limits),
            *(config.templates_dir, config.duckdb_path.stem if config.snowflake is None else None),
            self._breaker,
        )
        self._queries.on_end = self.observed.query_ended

    async def run(self) -> UploaderStatus:
        delivery = Delivery(self._warehouse, self._stop, self._board.waits, self._breaker)
        alert = DriftAlert(self._contexts.events, self._origin)
        drain = Drain(self._spool, self._warehouse, delivery, GIVE_UP_S, self._contexts, alert)
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
        await to_thread.run_sync(self._breaker_events.put)
        self._board.stopped(failure)
        if failure is not None:
            raise failure
        return self._board.status

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
            with self._breaker.attempt():
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
            self._board.waits(error)
            return
        self._board.idle()

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
            await to_thread.run_sync(self._breaker_events.put)
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
            self._board.rests(drain.problem())
            asked = quiet is None or quiet != self._queries.quiet()
            if self._config.once and (not asked or self._breaker.away_s() >= GIVE_UP_S):
                if asked:
                    raise self._breaker.away()
                return
            # Another look at the queue, which finds what the last server sealed before it went.
            unused = self._config.exit_when_unused and not live_servers(self._spool) and not drain.has_writers()
            if unused and not asked and not await drain.waiting() and quiet == self._queries.quiet():
                return
            with anyio.move_on_after(POLL_S):
                await self._stop.wait()

    def _collects(self, segments: Sequence[SealedSegment]) -> bool:
        """Whether the segments shall wait for others: they are few, and young enough.

        What an earlier process left has waited: whoever started this one may ask for it. How long what is named after
        a time to come has waited (the clock was set back) nobody knows, so it has waited long enough.
        """
        oldest_s = min(segment.name.opened_ms for segment in segments) / 1000
        young = 0 <= time.time() - oldest_s < self._config.batch_age_s
        if self._config.once or not young or oldest_s < self._started_s:
            return False
        if self._config.exit_when_unused and not live_servers(self._spool):
            return False
        try:
            size = sum(self._spool.filesystem.size(segment.path) for segment in segments)
        except (OSError, QueueError):
            return False  # forming a batch meets it, too, and passes it over
        return size < self._warehouse.batch_bytes

    async def _drain(self, drain: Drain, segments: Sequence[SealedSegment]) -> None:
        self._board.loads()
        try:
            drained = await drain.drain_batch(segments)
        except OSError as error:
            if self._config.once:
                raise
            message = f"what was loaded cannot leave the queue: {error}"
            log.error("%s", message)  # noqa: TRY400 - an operator's line
            self._board.waits(UploaderError(message))
            with anyio.move_on_after(DISK_RETRY_S):
                await self._stop.wait()
            return
        except UploaderError as error:
            if self._config.once or isinstance(error, UploadStoppedError):
                raise
            log.error("%s", error)  # noqa: TRY400 - an operator's line
            self._board.waits(error)
            if not error.transient:
                with anyio.move_on_after(RETRY_S):
                    await self._stop.wait()
            return
        if drained.events or drained.dead_letters:
            self._board.count(drained)
            self.observed.loaded(drained)
        if self._progress is not None:
            ahead = sum(segment.events for segment in self._spool.sealed_segments())
            done = self._board.status.events
            self._progress(done, done + ahead)

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

    def _breaker_changed(self) -> None:
        self._breaker_events.changed()
        self._board.refresh()
