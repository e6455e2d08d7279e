"""The writer: many waiting appends, one write and one flush, off the event loop (group commit)."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

import anyio
from anyio import to_thread

from ._errors import QueueClosedError, QueueError, QueueWriteError
from ._names import SegmentName
from ._segment import ActiveSegment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ._event import Event
    from ._spool import Spool

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RotationPolicy:
    """When an active segment is sealed, whichever comes first."""

    max_bytes: int = 16 * 1024 * 1024
    """Small enough to be read whole while draining, large enough that a backlog is few files."""
    max_age_s: float = 1.0
    """Bounds the ingestion lag: only sealed segments are drained."""


class WriterStatistics(NamedTuple):
    """Counters since the writer was opened."""

    events: int
    """Acknowledged events."""
    bytes: int
    """Their bytes."""
    commits: int
    """Flushes; ``events / commits`` is the size of a group."""
    failures: int
    """Commits that failed; none of their events was acknowledged."""
    sealed: int
    """Sealed segments."""
    waiting: int
    """Events handed in and not yet acknowledged."""


class _AbandonedError(QueueWriteError):
    """The segment took the lines, or a part of them, and must not be written again."""


@dataclass(slots=True)
class _Group:
    """The appends that share one commit."""

    lines: list[bytes] = field(default_factory=list)
    done: anyio.Event = field(default_factory=anyio.Event)
    error: QueueError | None = None


class QueueWriter:
    """Appends events durably to segments of its own; any number of tasks may append at once. By ``open_writer``.

    A thread owns the segment. It gets one group at a time, and meanwhile the next group forms: the slower the disk,
    the larger the groups.
    """

    def __init__(self, spool: Spool, rotation: RotationPolicy) -> None:
        self._spool = spool
        self._rotation = rotation
        # 48 random bits: two writers of one spool never share a name, not even with one clock.
        self._writer = secrets.token_hex(6)
        self._sequence = 0
        self._opened_ms = 0
        self._segment: ActiveSegment | None = None
        self._loop = asyncio.get_running_loop()
        self._inbox: SimpleQueue[_Group | None] = SimpleQueue()
        self._forming = _Group()
        self._committing = False
        self._closing = False
        self._waiting = self._events = self._bytes = self._commits = self._failures = self._sealed = 0

    async def append(self, events: Sequence[Event]) -> None:
        """Put the events on stable storage; on return they are acknowledged.

        Cancelled while waiting, the events may or may not be stored.

        Raises:
            QueueWriteError: none of them is acknowledged; append them again (same ids: still once each).
            QueueClosedError: the writer is shutting down.
        """
        if self._closing:
            raise QueueClosedError
        if not events:
            return  # a group without lines is never sent, so nobody would answer
        group = self._forming
        group.lines.extend([event.line for event in events])
        self._waiting += len(events)
        if not self._committing:
            self._submit()
        try:
            await group.done.wait()
        finally:
            self._waiting -= len(events)
        if group.error is not None:
            raise type(group.error)(str(group.error)) from group.error.__cause__

    def statistics(self) -> WriterStatistics:
        """Counters since the writer was opened."""
        return WriterStatistics(self._events, self._bytes, self._commits, self._failures, self._sealed, self._waiting)

    def _submit(self) -> None:
        self._committing = True
        group, self._forming = self._forming, _Group()
        self._inbox.put(group)

    def _committed(self, group: _Group, error: QueueError | None) -> None:
        """Answer a group's callers and send the next group. Called in the event loop."""
        if error is not None:
            self._failures += 1
            log.error("queue append failed: %s", error)
        group.error = error
        group.done.set()
        if self._forming.lines:
            self._submit()
        else:
            self._committing = False
            if self._closing:
                self._inbox.put(None)

    def _close(self) -> None:
        """Take no more; the thread ends when what waits is committed."""
        self._closing = True
        if not self._committing:
            self._inbox.put(None)

    async def _watch_thread(self) -> None:
        """Run the thread to its end; shielded, for a cancelled commit would leave its callers without an answer."""
        with anyio.CancelScope(shield=True):
            try:
                await to_thread.run_sync(self._run, limiter=anyio.CapacityLimiter(1))
            finally:
                self._closing = True
                self._refuse_what_waits()

    def _refuse_what_waits(self) -> None:
        """Answer all whom the thread will not: nobody, unless it broke."""
        groups: list[_Group | None] = [self._forming]
        while not self._inbox.empty():
            groups.append(self._inbox.get())
        for group in groups:
            if group is not None:
                group.error = QueueWriteError("the queue's commit thread failed")
                group.done.set()

    # What follows runs in the thread.

    def _run(self) -> None:
        while True:
            try:
                group = self._inbox.get(timeout=self._until_rotation())
            except Empty:
                self._seal()
                continue
            if group is None:
                break
            error: QueueError | None = QueueWriteError("the queue's commit thread failed")
            try:
                self._commit(group.lines)
                error = None
            except QueueError as failed:
                error = failed
            finally:
                self._loop.call_soon_threadsafe(self._committed, group, error)
        self._seal()

    def _until_rotation(self) -> float | None:
        if self._segment is None:
            return None
        return max(0.0, self._rotation.max_age_s - self._segment.age())

    def _commit(self, lines: list[bytes]) -> None:
        """Rotate if it is time, then make the lines durable."""
        data = b"".join(lines)
        segment = self._segment
        if segment is not None and (
            segment.age() >= self._rotation.max_age_s or segment.size + len(data) > self._rotation.max_bytes
        ):
            self._seal()
        try:
            self._append(data, len(lines))
        except _AbandonedError as error:
            # Recovery will seal the abandoned file, maybe with these lines. Were they refused now, the caller would
            # log them anew, with other ids: twice. In a new file they keep theirs.
            log.error("%s; writing to a new segment", error)  # noqa: TRY400 - an operator's line
            self._append(data, len(lines))
        self._commits += 1
        self._events += len(lines)
        self._bytes += len(data)

    def _append(self, data: bytes, events: int) -> None:
        """Append to the segment; let go of one that must not be written again."""
        segment = self._segment = self._segment or self._open_segment()
        try:
            segment.append(data, events)
        except QueueWriteError as error:
            if segment.usable:
                raise
            self._segment = None
            raise _AbandonedError(str(error)) from error.__cause__

    def _open_segment(self) -> ActiveSegment:
        self._sequence += 1
        # Never below the previous name, so that a writer's segments sort by sequence when the clock jumps back.
        self._opened_ms = max(time.time_ns() // 1_000_000, self._opened_ms)
        name = SegmentName(self._opened_ms, self._writer, self._sequence, None)
        segment = ActiveSegment.create(self._spool.filesystem, self._spool.queue, name)
        self._sequence = segment.sequence
        return segment

    def _seal(self) -> None:
        segment, self._segment = self._segment, None
        if segment is None:
            return
        try:
            segment.seal()
            self._sealed += 1
        except QueueError as error:
            # The events are durable where they are; only their drain waits for recovery.
            log.error("%s", error)  # noqa: TRY400 - an operator's line, not a traceback


@asynccontextmanager
async def open_writer(spool: Spool, rotation: RotationPolicy | None = None) -> AsyncIterator[QueueWriter]:
    """Open a writer on the spool; leaving the context commits what waits and seals the segment.

    Leaving takes as long as the disk takes for one commit, also when cancelled.
    """
    writer = QueueWriter(spool, rotation or RotationPolicy())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer._watch_thread, name="queue commit")  # noqa: SLF001 - its own parts
        try:
            yield writer
        finally:
            writer._close()  # noqa: SLF001
