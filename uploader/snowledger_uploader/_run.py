"""``snowledger upload``: one process per spool that drains it, as a daemon or once."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import uuid
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from snowledger_queue import (
    BatchStatus,
    Origin,
    ProcessLock,
    Spool,
    UploaderStatus,
    live_servers,
    open_spool,
    read_uploader_status,
    timestamp,
    write_uploader_status,
)

from ._config import UploaderConfig
from ._contexts import Contexts
from ._deliver import Delivery
from ._drain import Drain, DrainedBatch
from ._duckdb import DuckDBWarehouse
from ._errors import LockLostError, UploaderError, UploadStoppedError, WarehouseUnavailableError
from ._queries import QueryRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from snowledger_queue import SealedSegment

    from ._warehouse import Warehouse

log = logging.getLogger(__name__)

POLL_S = 0.1
"""How often an idle uploader looks for sealed segments; a look costs some 50 µs and adds at most this to the lag."""

STOP_S = 10.0
"""After SIGTERM a running batch gets this long to finish before it is rolled back (systemd's default is 90 s)."""

GIVE_UP_S = 30.0
"""How long a batch is tried while the warehouse is locked or away. Then ``upload --once`` ends with the reason, and the
daemon forms the batch anew, for one of its files may be what is wrong."""

RETRY_S = 15.0
"""How often the daemon tries again what only an operator can mend."""


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
    with _private_files():
        spool = open_spool(config.home)
        lock = ProcessLock.acquire(spool.uploader_lock, "uploader")
        try:
            shutil.rmtree(spool.work)
            spool.work.mkdir(exist_ok=True)  # whoever opens the spool at this moment makes it as well
            return anyio.run(_Uploader(config, spool, lock, progress).run)
        finally:
            lock.release()


@contextmanager
def _private_files() -> Iterator[None]:
    """DuckDB gives its write-ahead log the mode that the umask leaves, maybe outside the private spool."""
    umask = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(umask)


def make_origin(config: UploaderConfig) -> Origin:
    """Of the uploader's own events."""
    return Origin(config.version, uuid.uuid4().hex, source_system="snowledger")


def make_warehouse(config: UploaderConfig, spool: Spool, origin: Origin) -> Warehouse:
    """The back end that the config names."""
    return DuckDBWarehouse(config.duckdb_path, spool.work, origin)


def check_warehouse(config: UploaderConfig) -> str:
    """Open the warehouse, bring its schema up to date, close it; return a line that says so.

    Raises:
        UploaderError: why it cannot be used.
        snowledger_queue.SpoolError: the spool cannot be used.
    """

    async def check() -> None:
        warehouse = make_warehouse(config, open_spool(config.home), make_origin(config))
        try:
            await warehouse.open()
        finally:
            await warehouse.close()

    with _private_files():
        anyio.run(check)
    return f"DuckDB file {config.duckdb_path} opens and has its schema"


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
        before = read_uploader_status(spool)
        last_batch = None if before is None else before.last_batch
        self._status = UploaderStatus(pid=os.getpid(), state="starting", updated_at="", last_batch=last_batch)
        origin = make_origin(config)
        self._warehouse = make_warehouse(config, spool, origin)
        self._contexts = Contexts(spool, self._warehouse, origin, self._stop, config.refresh_interval_s)
        self._queries = QueryRunner(
            spool, self._warehouse, self._contexts.events, origin, config.limits, config.templates_dir
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
                await self._open()
                tasks.start_soon(self._run_queries, querying, name="queries")
                await self._loop(drain)
                finished = True
            except UploadStoppedError as error:
                log.info("%s", error)
            except (UploaderError, OSError) as error:
                failure = error
            tasks.cancel_scope.cancel()
        if failure is None and not finished and self._config.once:
            failure = UploadStoppedError("stopped; what is not loaded yet is still in the queue")
        await self._warehouse.close()
        await self._contexts.close()
        self._set(state="stopped", problem=self._status.problem if failure is None else str(failure))
        if failure is not None:
            raise failure
        return self._status

    async def _open(self) -> None:
        """Find out whether the warehouse can be used at all; that it cannot be now is no obstacle."""
        try:
            await self._warehouse.open()
        except WarehouseUnavailableError as error:
            log.warning("%s", error)
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
            if segments:
                await self._drain(drain, segments)
                continue
            # Not before what waits at the start is drained: some of it may have been loaded already, and a server would
            # count that twice, in the queue and in the contexts, until its segments are named as covered.
            reason = self._contexts.due()
            if reason is not None:
                await self._contexts.refresh(reason)
                continue
            await self._warehouse.close()
            if self._status != self._current(state="idle", problem=drain.problem()):
                self._set(state="idle", problem=drain.problem())
            asked = quiet is None or quiet != self._queries.quiet()
            if self._config.once and not asked:
                return
            # Another look at the queue, which finds what the last server sealed before it went.
            unused = self._config.exit_when_unused and not live_servers(self._spool) and not drain.has_writers()
            if unused and not asked and not await drain.waiting() and quiet == self._queries.quiet():
                return
            with anyio.move_on_after(POLL_S):
                await self._stop.wait()

    async def _drain(self, drain: Drain, segments: Sequence[SealedSegment]) -> None:
        if self._status.state != "loading":
            self._set(state="loading")
        try:
            drained = await drain.drain_batch(segments)
        except UploaderError as error:
            if self._config.once or isinstance(error, UploadStoppedError):
                raise
            log.error("%s", error)  # noqa: TRY400 - an operator's line
            self._waits(str(error))
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

    def _waits(self, problem: str) -> None:
        self._set(state="waiting", problem=problem)

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
        try:
            write_uploader_status(self._spool, self._status)
        except OSError as error:
            log.warning("cannot write %s: %s", self._spool.uploader_status, error)

    def _current(self, **changes: object) -> UploaderStatus:
        contexts = {"contexts_as_of": self._contexts.as_of, "contexts_problem": self._contexts.problem}
        return replace(self._status, **contexts, **changes)  # type: ignore[arg-type]
