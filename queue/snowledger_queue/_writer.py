"""The writer: many waiting appends, one write and one flush, off the event loop (group commit)."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

import anyio

from ._errors import QueueClosedError, QueueError, QueueWriteError, UncertainWriteError
from ._names import SegmentName
from ._rotation import Rotation, RotationPolicy
from ._segment import ActiveSegment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ._event import Event
    from ._spool import Spool

log = logging.getLogger(__name__)

ANSWER_S = 10.0
"""Longest that an append waits for the disk: a sleeping one wakes up within it, and clients wait for 30 s and more."""

LEAVE_S = 1.0
"""Longest that leaving the writer waits for the disk, from when it was asked: what ``serve`` has for its end."""


class WriterStatistics(NamedTuple):
    """Counters since the writer was opened."""

    events: int
    """Events on stable storage."""
    bytes: int
    """Their bytes."""
    commits: int
    """Flushes; ``events / commits`` is the size of a group."""
    failures: int
    """Commits that failed or took too long; none of their events was acknowledged."""
    sealed: int
    """Sealed segments."""
    waiting: int
    """Events handed in and not yet acknowledged."""


@dataclass(slots=True)
class _Group:
    """The appends that share one commit, and one deadline: that of the first."""

    lines: list[bytes] = field(default_factory=list)
    done: anyio.Event = field(default_factory=anyio.Event)
    error: QueueError | None = None
    deadline: asyncio.TimerHandle | None = None


class QueueWriter:
    """Appends events durably to segments of its own; any number of tasks may append at once. By ``open_writer``.

    A thread owns the segment. It gets one group at a time, and meanwhile the next group forms: the slower the disk,
    the larger the groups. Who waits for a disk that does not answer is told after ``ANSWER_S``.
    """

    def __init__(self, spool: Spool, rotation: RotationPolicy) -> None:
        self._spool = spool
        self._rotation = Rotation(rotation, spool.filesystem)
        # 48 random bits: two writers of one spool never share a name, not even with one clock.
        self._writer = secrets.token_hex(6)
        self._sequence = 0
        self._opened_ms = 0
        self._segment: ActiveSegment | None = None
        self._loop = asyncio.get_running_loop()
        self._inbox: SimpleQueue[_Group | None] = SimpleQueue()
        self._forming = _Group()
        self._committing: _Group | None = None
        self._asked = 0.0
        """When the thread was handed what it has not answered yet."""
        self._closing = anyio.Event()
        self._ended = anyio.Event()
        self._broken: BaseException | None = None
        self._keeping = False
        self._problem: str | None = None
        self._waiting = self._events = self._bytes = self._commits = self._failures = self._sealed = 0

    async def append(self, events: Sequence[Event]) -> None:
        """Put the events on stable storage; on return they are acknowledged.

        Cancelled while waiting, the events may or may not be stored.

        Raises:
            QueueWriteError: none of them is stored; append them again.
            UncertainWriteError: the same, but they may be stored all the same, or be so later; append the same events
                again (same ids: still once each).
            QueueClosedError: the writer is shutting down.
        """
        if self._closing.is_set():
            raise QueueClosedError
        if not events:
            return  # a group without lines is never sent, so nobody would answer
        group = self._forming
        if not group.lines:
            group.deadline = self._loop.call_later(ANSWER_S, self._expire, group)
        group.lines.extend([event.line for event in events])
        self._waiting += len(events)
        if self._committing is None:
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
        self._committing, self._forming = self._forming, _Group()
        self._hand(self._committing)

    def _hand(self, group: _Group | None) -> None:
        self._asked = self._loop.time()
        self._inbox.put(group)

    def _committed(self, group: _Group, error: QueueError | None) -> None:
        """Answer a group's callers and send the next group. Called in the event loop."""
        if group.done.is_set():
            log.warning("the disk answered after all: %s", error or f"{len(group.lines)} events given up are stored")
        else:
            self._answer(group, error)
        self._committing = None
        if self._forming.lines:
            self._submit()
        elif self._closing.is_set():
            self._hand(None)

    def _expire(self, group: _Group) -> None:
        """Answer a group's callers whose disk does not answer. Called in the event loop."""
        problem = f"the disk has not answered for {ANSWER_S:g} s"
        if group is self._forming:
            self._forming = _Group()  # else events would pile up in memory for as long as the disk hangs
            self._answer(group, QueueWriteError(problem))
        else:
            self._answer(group, UncertainWriteError(problem))

    def _answer(self, group: _Group, error: QueueError | None) -> None:
        if group.deadline is not None:
            group.deadline.cancel()
        if error is not None:
            self._failures += 1
        # A disk that is full for an hour is said once, not at each of a million commits.
        problem = None if error is None else str(error)
        if problem is not None and problem != self._problem:
            log.error("queue append failed: %s", problem)
        elif problem is None and self._problem is not None:
            log.warning("queue appends work again")
        self._problem = problem
        group.error = error
        group.done.set()

    def _close(self) -> None:
        """Take no more; the thread ends when what waits is committed."""
        self._closing.set()
        if self._committing is None:
            self._hand(None)

    def _thread_ended(self, error: BaseException | None) -> None:
        self._broken = error
        self._closing.set()
        self._ended.set()

    async def _watch_thread(self) -> None:
        """Run the thread to its end; shielded, for a cancelled commit would leave its callers without an answer.

        One that a hung disk holds is left behind.
        """
        # A daemon, for Python does not end before other threads do.
        Thread(target=self._run, name="queue commit", daemon=True).start()
        with anyio.CancelScope(shield=True):
            await self._closing.wait()
            while not self._ended.is_set() and self._loop.time() < self._asked + LEAVE_S:
                with anyio.CancelScope(deadline=self._asked + LEAVE_S):
                    await self._ended.wait()
        if not self._ended.is_set():
            log.error("the disk does not answer; the active segment is left for recovery")
        for group in (self._committing, self._forming):
            if group is not None and group.lines and not group.done.is_set():
                self._answer(group, UncertainWriteError("the queue ended before the disk confirmed it"))
        if self._broken is not None:
            raise self._broken

    # What follows runs in the thread.

    def _run(self) -> None:
        broken: BaseException | None = None
        # A closed loop has left this thread behind; then nobody waits for it.
        with suppress(RuntimeError):
            try:
                self._commit_groups()
            except BaseException as error:  # noqa: BLE001 - raised where the thread is watched
                broken = error
            self._loop.call_soon_threadsafe(self._thread_ended, broken)

    def _commit_groups(self) -> None:
        while True:
            try:
                group = self._inbox.get(timeout=self._until_rotation())
            except Empty:
                self._rest()
                continue
            if group is None:
                break
            error: QueueError | None = None
            try:
                self._commit(group.lines)
            except QueueError as failed:
                error = failed
            self._loop.call_soon_threadsafe(self._committed, group, error)
        self._seal()

    def _until_rotation(self) -> float | None:
        if self._segment is None:
            return None
        if self._keeping:
            return self._rotation.max_age_s  # from now: another segment was asked for in vain
        return max(0.0, self._rotation.max_age_s - self._segment.age())

    def _commit(self, lines: list[bytes]) -> None:
        """Rotate if it is time, then make the lines durable."""
        data = b"".join(lines)
        segment = self._segment
        if segment is not None and (
            segment.age() >= self._rotation.max_age_s or segment.size + len(data) > self._rotation.max_bytes
        ):
            self._rotate()
        try:
            self._append(data, len(lines))
        except UncertainWriteError as error:
            # Recovery will seal the abandoned file, maybe with these lines. Were they refused now, the caller would
            # log them anew, with other ids: twice. In a new file they keep theirs.
            log.error("%s; writing to a new segment", error)  # noqa: TRY400 - an operator's line
            try:
                self._append(data, len(lines))
            except QueueWriteError as again:
                raise UncertainWriteError(str(again)) from again.__cause__
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
            raise UncertainWriteError(str(error)) from error.__cause__

    def _rest(self) -> None:
        """Nothing came for long enough that what is there should be drained."""
        if self._segment is not None and self._segment.events:
            self._rotate()
        else:
            self._seal()

    def _rotate(self) -> None:
        """Seal the segment once there is another; without room for one (inodes, descriptors) go on with it."""
        try:
            following = self._open_segment()
        except QueueWriteError as error:
            if not self._keeping:
                log.error("%s; writing on in the old one", error)  # noqa: TRY400 - an operator's line
            self._keeping = True
            return
        self._keeping = False
        self._seal()
        self._segment = following

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
            path = segment.seal()
        except QueueError as error:
            # The events are durable where they are; only their drain waits for recovery.
            log.error("%s", error)  # noqa: TRY400 - an operator's line, not a traceback
        else:
            if path is not None:
                self._sealed += 1
                self._rotation.sealed(path)


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
