"""The drain loop: sealed segments into the warehouse, and only then off the disk."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import anyio
from anyio import to_thread

from snowledger_queue import DeadLetterBox, correlated, recover

from ._batch import FormedBatch, form_batch
from ._errors import BatchTooLargeError, RowsRejectedError, UploaderError
from ._rejected import Examined, Rejected
from ._unreadable import Unreadable
from ._warehouse import batch_tag

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from pathlib import Path

    from snowledger_queue import DeadLetter, SealedSegment, Spool

    from ._contexts import Contexts
    from ._deliver import Delivery
    from ._drift import DriftAlert
    from ._warehouse import Batch, Receipt, Warehouse

log = logging.getLogger(__name__)

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
        alert: DriftAlert | None = None,
    ) -> None:
        """``give_up_after_s`` bounds the retries of a batch; None retries for ever.

        ``contexts`` are brought up to date with each batch, before its segments are deleted; ``alert`` hears of events
        that do not fit.
        """
        self._spool = spool
        self._warehouse = warehouse
        self._delivery = delivery
        self._give_up_after_s = give_up_after_s
        self._contexts = contexts
        self._box = DeadLetterBox(spool)
        self._batch_bytes = warehouse.batch_bytes
        self._batch_files = warehouse.batch_files
        self._ahead: FormedBatch | None = None
        self._flows = True
        """Whether the warehouse answered the last batch."""
        self._unreadable = Unreadable(spool, self._box)
        self._rejected = Rejected(spool, self._deliver)
        if contexts is not None:
            contexts.partly = self._rejected.partly
        self._alert = alert
        self._writers = {source.writer for source in (alert, contexts and contexts.events) if source}
        """Of its own events."""
        self._own = False
        """Whether the batch at work has the uploader's own events alone."""

    async def waiting(self) -> list[SealedSegment]:
        """Recover what dead writers left, then list the segments that can be drained, oldest first."""
        return await to_thread.run_sync(self._waiting)

    def problem(self) -> str | None:
        """What stays in the queue though nobody writes to it; None when there is nothing."""
        return self._unreadable.problem() or self._rejected.problem()

    def has_writers(self) -> bool:
        """Whether somebody is appending to a segment now."""
        return any(path not in self._unreadable.paths for path in self._spool.active_segments())

    async def drain_batch(self, segments: Sequence[SealedSegment]) -> DrainedBatch:
        """Load one batch from the head of the segments, confirm it, and delete them.

        Whenever this is interrupted, the segments not deleted are drained again, and events that were loaded
        already are known by their ids.

        Raises:
            UploadStoppedError, UploaderError: see ``Delivery.deliver``; the segments stay.
            OSError: dead letters cannot be kept, or segments not deleted.
        """
        formed = await to_thread.run_sync(self._formed, segments)
        outcome: DrainedBatch | UploaderError | OSError
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._form_ahead, formed, segments, name="next batch")
            try:
                with correlated(batch_tag(formed.batch.batch_id)):
                    outcome = await self._drain(formed)
            except (UploaderError, OSError) as error:  # a task group would wrap it
                outcome = error
        self._flows = isinstance(outcome, (DrainedBatch, BatchTooLargeError, RowsRejectedError))
        if isinstance(outcome, DrainedBatch):
            return outcome
        with suppress(OSError):  # the first error is the one to report
            await to_thread.run_sync(self._remove, formed.scratch)
        if not isinstance(outcome, (BatchTooLargeError, RowsRejectedError)):
            raise outcome
        batch_id = formed.batch.batch_id
        if len(formed.segments) == 1:
            self._rejected.suspect(formed.segments[0], batch_id, str(outcome), quiet=self._own or self._alert is None)
            return DrainedBatch(batch_id, 0, 0, 0, 0.0, 0.0)
        log.warning("batch %.8s is halved: %s", batch_id, outcome)
        if isinstance(outcome, BatchTooLargeError):
            self._batch_bytes = formed.batch.size // 2
        else:
            self._batch_files = len(formed.segments) // 2
        return await self.drain_batch(segments[: max(1, len(formed.segments) // 2)])

    async def _drain(self, formed: FormedBatch) -> DrainedBatch:
        started = time.monotonic()
        self._own = all(self._is_own(segment) for segment in formed.segments)
        loads = self._rejected.loads
        found = await self._loaded(formed)
        seconds = time.monotonic() - started
        oldest_ms = min((segment.name.opened_ms for segment in found.settled), default=None)
        lag_s = 0.0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000)
        if self._rejected.loads != loads:
            await self._refresh([segment.name.stem for segment in found.settled])
        own = sum(segment.events for segment in found.settled if self._is_own(segment))
        settled = {segment.path.name for segment in found.settled}
        letters = [*(letter for letter in formed.letters if letter.segment in settled), *found.letters]
        await to_thread.run_sync(self._settle, formed, settled, letters)
        # Not about themselves: what rejects everything rejects the alert, too.
        if self._alert is not None and not self._own:
            await to_thread.run_sync(self._warn, self._alert, formed.batch, letters)
        return DrainedBatch(
            formed.batch.batch_id,
            max(0, found.loaded - own),
            max(0, found.inserted - own),
            len(letters),
            seconds,
            lag_s,
        )

    async def _loaded(self, formed: FormedBatch) -> Examined:
        """Load the batch; of a segment that was rejected, what the warehouse takes."""
        whole = Examined(list(formed.segments), [], formed.batch.events, 0)
        if not formed.batch.events:
            return whole
        if self._rejected.suspects(formed.segments[0]):
            return await self._rejected.examine(formed.segments[0])
        receipt = await self._deliver(formed.batch)
        self._rejected.loaded()
        # Halved until the segment with rejected rows was alone; then what its writer wrote else grows again.
        self._batch_files = min(2 * self._batch_files, self._warehouse.batch_files)
        return whole._replace(inserted=receipt.inserted)

    async def _deliver(self, batch: Batch) -> Receipt:
        return await self._delivery.deliver(batch, self._give_up_after_s, own=self._own)

    async def _refresh(self, drained: Sequence[str]) -> None:
        if self._contexts is not None:
            await self._contexts.refresh("load", drained, own=self._own)

    def _is_own(self, segment: SealedSegment) -> bool:
        return segment.name.writer in self._writers

    async def _form_ahead(self, formed: FormedBatch, segments: Sequence[SealedSegment]) -> None:
        """Form what follows; verifying takes one core half as long as the load takes both."""
        taken = {segment.path for segment in (*formed.segments, *(segment for segment, _ in formed.unreadable))}
        rest = [segment for segment in segments if segment.path not in taken]
        # With something rejected others have the next turn; in an outage it would be formed for nothing, every 30 s.
        if rest and self._flows and not self._rejected:
            self._ahead = await to_thread.run_sync(self._form, rest, self._batch_bytes)

    # What follows is blocking and runs in a worker thread.

    def _waiting(self) -> list[SealedSegment]:
        self._unreadable.look()
        recover(self._spool, self._unreadable.paths, self._unreadable.failed)
        readable = [one for one in self._spool.sealed_segments() if one.path not in self._unreadable.paths]
        segments = self._rejected.allowed(readable)
        news = self._rejected.news()
        if self._alert is not None and news is not None:
            batch_id, problem = news
            self._alert.raised({"batch_id": batch_id, "dead_letters": {}, "reason": problem})
            return self._waiting()
        if not segments:
            self._batch_bytes = self._warehouse.batch_bytes
        return segments

    def _formed(self, segments: Sequence[SealedSegment]) -> FormedBatch:
        """The batch at the head of the segments: the one that was formed ahead, if that is what it holds."""
        formed = self._formed_now(segments)
        for segment, error in formed.unreadable:
            self._unreadable.failed(segment.path, error)
        return formed

    def _formed_now(self, segments: Sequence[SealedSegment]) -> FormedBatch:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            if not ahead.unreadable and ahead.segments == tuple(segments[: len(ahead.segments)]):
                return ahead
            self._remove(ahead.scratch)
        # Nothing loads until the first batch of a backlog is formed, so that is a small one.
        return self._form(segments, self._batch_bytes // FIRST_BATCH)

    def _form(self, segments: Sequence[SealedSegment], max_bytes: int) -> FormedBatch:
        tainted = bool(segments) and self._rejected.tainted(segments[0])
        return form_batch(
            self._spool, segments, max_bytes, self._batch_files if tainted else self._warehouse.batch_files
        )

    def _settle(self, formed: FormedBatch, settled: Container[str], letters: Sequence[DeadLetter]) -> None:
        """All of what is settled is in the warehouse or in ``letters``: keep those, then let go of the segments."""
        with_letters = {letter.segment for letter in letters}
        paths = [segment.path for segment in formed.segments if segment.path.name in settled]
        # First what needs no letter, and the copies: on a full disk that may be the space for the letters.
        self._remove([*formed.scratch, *(path for path in paths if path.name not in with_letters)])
        if letters:
            self._box.put(letters)
            self._remove(paths)

    def _warn(self, alert: DriftAlert, batch: Batch, letters: Sequence[DeadLetter]) -> None:
        drifted = [letter for letter in letters if letter.error_class != "damaged"]
        if drifted:
            classes = Counter(letter.error_class for letter in drifted)
            alert.raised({"batch_id": batch.batch_id, "dead_letters": classes, "reason": drifted[0].reason})

    def _remove(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self._spool.filesystem.remove(path)
        self._spool.filesystem.sync_folder(self._spool.queue)
