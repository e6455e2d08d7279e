"""Segments that the warehouse does not take as they are: which rows are at fault, and what waits for that.

Such a segment is a suspect. It stays in the queue and is passed over, so that what is behind it flows; in turns with
ordinary batches, the rows that the warehouse does take are found by bisection and loaded. What a suspect's writer
wrote else may have the same fault, so it is not in one batch with what others wrote.

A row is its event's fault when it was rejected alone twice, each time shortly before a load that succeeded, or four
times shortly after one, with loads between and after: the warehouse takes others. When too many tries in a row fail, it
may be the warehouse's fault: all suspects rest until anything was loaded, and are tried again from time to time. Good
events are thus not set aside for a broken schema or stage.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, NamedTuple

from anyio import to_thread

from snowledger_queue import QueueError, dead_letter, intact_lines

from ._batch import Line, batch_of_lines
from ._errors import BatchTooLargeError, RowsRejectedError
from ._suspect import Held, Part, Suspect, pause_s

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from snowledger_queue import DeadLetter, SealedSegment, Spool

    from ._warehouse import Batch, Receipt

log = logging.getLogger(__name__)

PROOF_S = 30.0
"""How near a rejection a load must succeed to show that the warehouse took rows at that time: an alert takes some
seconds, and who mends a broken warehouse takes longer."""

PATIENCE, MAX_PATIENCE = 32, 1024
"""After so many failures in a row the suspects rest. The patience grows when a load came after that, for a segment full
of rejected rows would need as many rests as it has rows; a warehouse that is broken costs no more loads."""

SLICE_S = 10.0
"""For how long one suspect is searched before other segments have a turn."""


class Examined(NamedTuple):
    """What became of segments."""

    settled: list[SealedSegment]
    """Their rows are in the warehouse or in ``letters``; the others stay in the queue."""
    letters: list[DeadLetter]
    loaded: int
    """Rows of the settled ones that are in the warehouse."""
    inserted: int
    """Of them, those that it did not hold before."""


class Rejected:
    """The suspects of a queue. One task uses it."""

    def __init__(self, spool: Spool, deliver: Callable[[Batch], Awaitable[Receipt]]) -> None:
        """``deliver`` loads a batch; raises ``RowsRejectedError``, ``BatchTooLargeError`` or what is raised here."""
        self._spool = spool
        self._deliver = deliver
        self.loads = 0
        """How many batches the warehouse took."""
        self._suspects: dict[Path, Suspect] = {}
        """In the order of their turns."""
        self._writers: set[str] = set()
        self._turn = 0
        self._failures = 0
        """In a row."""
        self._rejected_at = 0.0
        self._loaded_at = -math.inf
        self._patience = PATIENCE
        self._rested_after = -1
        """The suspects rest while there are no more loads than these."""
        self._rests = 0
        self._retry_at = 0.0
        self._news: tuple[str, str] | None = None

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._suspects)

    def loaded(self) -> None:
        """The warehouse took rows."""
        now = time.monotonic()
        if now - self._rejected_at > PROOF_S:
            for suspect in self._suspects.values():
                suspect.held = [one._replace(strikes=one.strikes - 1 if one.near else 0) for one in suspect.held]
        self._loaded_at = now
        self.loads += 1
        if self._failures >= self._patience:
            self._patience = min(2 * self._patience, MAX_PATIENCE)
            # It was broken, maybe: what was not searched yet is loaded with others, which is much faster.
            for suspect in self._suspects.values():
                if suspect.lines < 0 and suspect.again is None:
                    suspect.again = True
        self._failures = self._rests = 0

    def suspect(self, segment: SealedSegment, batch_id: str, reason: str, *, quiet: bool) -> None:
        """The segment was rejected alone; ``quiet`` says that no alert is to be raised about it."""
        log.warning("the warehouse does not take %s, which stays queued meanwhile: %s", segment.path.name, reason)
        suspect = self._suspects.setdefault(segment.path, Suspect(segment, batch_id, reason, quiet=quiet))
        suspect.reason = reason
        if suspect.again:
            suspect.again = False
        self._failed()
        if self._failures < self._patience:
            self._rested_after = -1

    def tainted(self, segment: SealedSegment) -> bool:
        """Whether the segment's writer wrote a suspect."""
        return segment.name.writer in self._writers

    def suspects(self, segment: SealedSegment) -> bool:
        """Whether the segment is to be examined instead of loaded."""
        suspect = self._suspects.get(segment.path)
        return suspect is not None and not suspect.again

    def allowed(self, segments: Sequence[SealedSegment]) -> list[SealedSegment]:
        """Of the segments that are there, those whose turn it is: one suspect alone, or several that are none."""
        there = {segment.path for segment in segments} if self._suspects else set()
        self._suspects = {path: suspect for path, suspect in self._suspects.items() if path in there}
        self._writers = {suspect.segment.name.writer for suspect in self._suspects.values()}
        if not self._suspects:
            return list(segments)
        clean = [segment for segment in segments if not self.tainted(segment)]
        tainted = [segment for segment in segments if self.tainted(segment) and not self.suspects(segment)]
        due = self._due()
        groups = (clean, tainted, [] if due is None else [due])
        # In turns, so that none holds the others up.
        turns = [turn % len(groups) for turn in range(self._turn + 1, self._turn + 1 + len(groups)) if groups[turn % 3]]
        if not turns:
            return []
        self._turn = turns[0]
        return groups[self._turn]

    def problem(self) -> str | None:
        """What the warehouse rejects so that nobody can say whose fault it is; None when there is nothing."""
        if not self._suspects or not self._rests:
            return None
        reason = next(iter(self._suspects.values())).reason
        return f"the warehouse rejects rows of {len(self._suspects)} segments, which stay queued: {reason}"

    def news(self) -> tuple[str, str] | None:
        """A batch and the problem, for an alert when suspects begin to rest: its load is the proof they wait for."""
        news, self._news = self._news, None
        return news

    def partly(self) -> list[str]:
        """Stems of the segments of which some rows are in the warehouse."""
        return [suspect.segment.name.stem for suspect in self._suspects.values() if suspect.loaded]

    async def examine(self, segment: SealedSegment) -> Examined:
        """Load what the warehouse takes of a suspect, for a while; it is settled when all its rows are found.

        What is found out is kept, whatever is raised.

        Raises:
            UploaderError: the warehouse cannot be used now.
            OSError: the segment cannot be read.
        """
        until = time.monotonic() + SLICE_S
        suspect = self._suspects.pop(segment.path)
        self._suspects[segment.path] = suspect  # as the last one
        # Read for each slice: all suspects together may be larger than the memory.
        try:
            lines = await to_thread.run_sync(self._lines, segment)
        except QueueError as error:  # no plain file any more: the next batch passes it over
            log.error("%s", error)  # noqa: TRY400 - an operator's line
            return Examined([], [], 0, 0)
        suspect.begin(len(lines))
        suspect.wake(self.loads)
        while suspect.left and self._failures < self._patience:
            await self._try(suspect, lines)
            suspect.wake(self.loads)
            if time.monotonic() >= until:
                break
        if suspect.left or suspect.held:
            return Examined([], [], 0, 0)
        letters = [
            dead_letter("rejected", reason, lines[number].segment, lines[number].offset, lines[number].content)
            for number, reason in sorted(suspect.guilty)
        ]
        return Examined([segment], letters, len(lines) - len(letters), suspect.inserted)

    async def _try(self, suspect: Suspect, lines: Sequence[Line]) -> None:
        part = suspect.left[-1]
        batch = await to_thread.run_sync(batch_of_lines, self._spool, lines[part.start : part.end])
        try:
            receipt = await self._deliver(batch)
        except (RowsRejectedError, BatchTooLargeError) as error:
            self._failed()
            suspect.left.pop()
            suspect.reason = str(error)
            middle = (part.start + part.end) // 2
            if middle > part.start:
                suspect.left += [Part(middle, part.end), Part(part.start, middle)]
            else:
                # A row that is too large for the warehouse's memory is not at fault.
                strikes = part.strikes + 2 if isinstance(error, RowsRejectedError) else 0
                near = part.near or time.monotonic() - self._loaded_at <= PROOF_S
                suspect.held.append(Held(part.start, str(error), strikes, self.loads, near))
        else:
            suspect.left.pop()
            suspect.loaded = True
            suspect.inserted += receipt.inserted
            self.loaded()
        finally:
            batch.files[0].unlink(missing_ok=True)

    def _failed(self) -> None:
        self._failures += 1
        self._rejected_at = time.monotonic()

    def _due(self) -> SealedSegment | None:
        """The next suspect to be examined; None while they rest."""
        if self._rested_after == self.loads:
            if time.monotonic() < self._retry_at:
                return None
            self._rested_after = -1
            self._failures = 0
            self._patience = PATIENCE
            for suspect in self._suspects.values():
                suspect.wake(self.loads, others=True)
        waiting = [suspect for suspect in self._suspects.values() if not suspect.again]
        if self._failures < self._patience:
            for suspect in waiting:
                if suspect.has_work(self.loads):
                    return suspect.segment
        if waiting:
            self._rest(waiting)
        return None

    def _rest(self, waiting: Sequence[Suspect]) -> None:
        self._rested_after = self.loads
        now = time.monotonic()
        self._retry_at = now + pause_s(self._rests)
        self._rests += 1
        tell = [suspect for suspect in waiting if suspect.alert(now)]
        problem = self.problem()
        if tell and problem is not None:
            self._news = (tell[0].batch_id, problem)

    def _lines(self, segment: SealedSegment) -> list[Line]:
        return [Line(segment.path.name, offset, line) for offset, line in intact_lines(self._spool, segment)]
