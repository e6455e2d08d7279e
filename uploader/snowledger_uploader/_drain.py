"""The drain loop: sealed segments into the warehouse, and only then off the disk."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import anyio
from anyio import to_thread

from snowledger_queue import DeadLetterBox, dead_letter, intact_lines, recover

from ._batch import FormedBatch, Line, batch_of_lines, form_batch
from ._errors import BatchTooLargeError, RowsRejectedError, UploaderError, WarehouseRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from snowledger_queue import DeadLetter, SealedSegment, Spool

    from ._contexts import Contexts
    from ._deliver import Delivery
    from ._warehouse import Warehouse

log = logging.getLogger(__name__)

UNREADABLE_RETRY_S = 30.0
"""A segment that cannot be read or recovered stays where it is and is tried again this often; the others are not held
up by it, and its error is logged no more often."""


FIRST_BATCH = 4
"""The part of a full batch that is loaded while the next one is formed, which takes half as long as to load as much."""


class DrainedBatch(NamedTuple):
    """What became of one batch of segments."""

    batch_id: str
    events: int
    """Lines that are in the warehouse now, without those that this uploader wrote itself."""
    inserted: int
    """Of them, those that it did not hold before."""
    dead_letters: int
    """Lines set aside."""
    seconds: float
    lag_s: float
    """From the oldest segment's first event to the confirmed receipt."""


class Drain:
    """Moves what is sealed into the warehouse, one batch at a time."""

    def __init__(
        self,
        spool: Spool,
        warehouse: Warehouse,
        delivery: Delivery,
        give_up_after_s: float | None = None,
        contexts: Contexts | None = None,
    ) -> None:
        """``give_up_after_s`` bounds the retries of a batch; None retries for ever.

        ``contexts`` are brought up to date with each batch, before its segments are deleted.
        """
        self._spool = spool
        self._warehouse = warehouse
        self._delivery = delivery
        self._give_up_after_s = give_up_after_s
        self._contexts = contexts
        self._box = DeadLetterBox(spool)
        self._batch_bytes = warehouse.batch_bytes
        self._ahead: FormedBatch | None = None
        self._unreadable: set[Path] = set()
        self._retry_at = 0.0

    async def waiting(self) -> list[SealedSegment]:
        """Recover what dead writers left, then list the segments that can be drained, oldest first."""
        return await to_thread.run_sync(self._waiting)

    def problem(self) -> str | None:
        """What stays in the queue though nobody writes to it; None when there is nothing."""
        names = sorted(path.name for path in self._unreadable)
        if not names:
            return None
        return f"{len(names)} files in the queue cannot be read, the first is {names[0]}; the log says why"

    def has_writers(self) -> bool:
        """Whether somebody is appending to a segment now."""
        return any(path not in self._unreadable for path in self._spool.active_segments())

    async def drain_batch(self, segments: Sequence[SealedSegment]) -> DrainedBatch:
        """Load one batch from the head of the segments, confirm it, and delete them.

        Whenever this is interrupted, the segments not deleted are drained again, and events that were loaded
        already are known by their ids.

        Raises:
            UploadStoppedError, UploaderError: see ``Delivery.deliver``; the segments stay.
            OSError: dead letters cannot be kept, or segments not deleted.
        """
        formed = await to_thread.run_sync(self._formed, segments)
        self._unreadable.update(segment.path for segment in formed.unreadable)
        outcome: DrainedBatch | UploaderError | OSError
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._form_ahead, formed, segments, name="next batch")
            try:
                outcome = await self._drain(formed)
            except (UploaderError, OSError) as error:  # a task group would wrap it
                outcome = error
        if isinstance(outcome, DrainedBatch):
            return outcome
        with suppress(OSError):  # the first error is the one to report
            await to_thread.run_sync(self._remove, formed.scratch)
        if not isinstance(outcome, BatchTooLargeError) or len(formed.segments) == 1:
            raise outcome
        self._batch_bytes = formed.batch.size // 2
        log.warning("batch %.8s is too large for the warehouse, halving it", formed.batch.batch_id)
        return await self.drain_batch(segments)

    async def _drain(self, formed: FormedBatch) -> DrainedBatch:
        started = time.monotonic()
        letters = list(formed.letters)
        inserted = await self._deliver(formed, letters) if formed.batch.events else 0
        seconds = time.monotonic() - started
        oldest_ms = min((segment.name.opened_ms for segment in formed.segments), default=None)
        lag_s = 0.0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000)
        own = 0
        if formed.batch.events and self._contexts is not None:
            await self._contexts.refresh("load", [segment.name.stem for segment in formed.segments])
            own = sum(
                segment.events for segment in formed.segments if segment.name.writer == self._contexts.events.writer
            )
        await to_thread.run_sync(self._settle, formed, letters)
        events = formed.batch.events + len(formed.letters) - len(letters) - own
        return DrainedBatch(formed.batch.batch_id, events, max(0, inserted - own), len(letters), seconds, lag_s)

    async def _deliver(self, formed: FormedBatch, letters: list[DeadLetter]) -> int:
        try:
            return (await self._delivery.deliver(formed.batch, self._give_up_after_s)).inserted
        except RowsRejectedError as error:
            log.warning("batch %.8s has rows that the warehouse rejects: %s", formed.batch.batch_id, error)
        inserted, before = 0, len(letters)
        for segment in formed.segments:
            lines = await to_thread.run_sync(self._lines, segment)
            inserted += await self._bisect(lines, letters)
        rejected = len(letters) - before
        if rejected == formed.batch.events > 1:
            # What rejects every intact event is not the events' fault.
            message = f"the warehouse rejects all {rejected} lines of a batch, which stay queued: {letters[-1].reason}"
            raise WarehouseRefusedError(message)
        return inserted

    async def _form_ahead(self, formed: FormedBatch, segments: Sequence[SealedSegment]) -> None:
        """Form what follows; verifying takes one core half as long as the load takes both."""
        taken = {segment.path for segment in (*formed.segments, *formed.unreadable)}
        rest = [segment for segment in segments if segment.path not in taken]
        if rest:
            with suppress(OSError):  # whose turn it is meets it again
                self._ahead = await to_thread.run_sync(self._form, rest, self._batch_bytes)

    async def _bisect(self, lines: Sequence[Line], letters: list[DeadLetter]) -> int:
        """Load the lines without those that the warehouse rejects; return how many were new."""
        if not lines:
            return 0
        batch = await to_thread.run_sync(batch_of_lines, self._spool, lines)
        try:
            return (await self._delivery.deliver(batch, self._give_up_after_s)).inserted
        except RowsRejectedError as error:
            if len(lines) == 1:
                letters.append(dead_letter("rejected", str(error), lines[0].segment, lines[0].offset, lines[0].content))
                return 0
        finally:
            batch.files[0].unlink(missing_ok=True)
        middle = len(lines) // 2
        return await self._bisect(lines[:middle], letters) + await self._bisect(lines[middle:], letters)

    # What follows is blocking and runs in a worker thread.

    def _waiting(self) -> list[SealedSegment]:
        if time.monotonic() >= self._retry_at:
            self._unreadable.clear()
            self._retry_at = time.monotonic() + UNREADABLE_RETRY_S
        recover(self._spool, self._unreadable)
        segments = [segment for segment in self._spool.sealed_segments() if segment.path not in self._unreadable]
        if not segments:
            self._batch_bytes = self._warehouse.batch_bytes
        return segments

    def _formed(self, segments: Sequence[SealedSegment]) -> FormedBatch:
        """The batch at the head of the segments: the one that was formed ahead, if that is what it holds."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            if not ahead.unreadable and ahead.segments == tuple(segments[: len(ahead.segments)]):
                return ahead
            self._remove(ahead.scratch)
        # Nothing loads until the first batch of a backlog is formed, so that is a small one.
        return self._form(segments, self._batch_bytes // FIRST_BATCH)

    def _form(self, segments: Sequence[SealedSegment], max_bytes: int) -> FormedBatch:
        return form_batch(self._spool, segments, max_bytes, self._warehouse.batch_files)

    def _lines(self, segment: SealedSegment) -> list[Line]:
        return [Line(segment.path.name, offset, line) for offset, line in intact_lines(self._spool, segment)]

    def _settle(self, formed: FormedBatch, letters: list[DeadLetter]) -> None:
        """Everything is in the warehouse or in ``letters``: keep those, then let go of the segments."""
        with_letters = {letter.segment for letter in letters}
        # First what needs no letter: on a full disk that may be the space for the letters.
        self._remove(segment.path for segment in formed.segments if segment.path.name not in with_letters)
        if letters:
            self._box.put(letters)
            self._remove(segment.path for segment in formed.segments)
            self._remove(formed.scratch)

    def _remove(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self._spool.filesystem.remove(path)
        self._spool.filesystem.sync_folder(self._spool.queue)
