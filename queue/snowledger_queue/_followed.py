"""One segment that is followed while it is written: which of its lines are new, and what they add."""

from __future__ import annotations

import logging
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING

from ._line import CRC_SUFFIX_BYTES, ID_END, ID_START, damage
from ._recall import HEADING, HOUR_CHARACTERS, contribution
from ._stamp import Stamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ._filesystem import Filesystem
    from ._names import SegmentName
    from ._queued import QueuedContents

log = logging.getLogger(__name__)

_OVERLAP = CRC_SUFFIX_BYTES + 1
"""The end of what was read, read again: with the last line's checksum it tells whether that line is still there."""

_SEEN_IDS = 20_000
"""Many more than wait for one flush, and what a desktop logs in hours; 4 MB."""


class SeenIds:
    """Which segment counts an event, for the latest ``_SEEN_IDS`` to twice as many events.

    An id comes again after a failed flush, when a writer writes its lines once more in a new segment, and when a client
    repeats an idempotency key. It stays known when the segment is drained, for then the warehouse has the event.
    """

    def __init__(self) -> None:
        self._latest: dict[bytes, str] = {}
        self._earlier: dict[bytes, str] = {}

    def claim(self, identity: bytes, stem: str) -> bool:
        """Whether the event is seen for the first time, and so counts in this segment."""
        if identity in self._latest or identity in self._earlier:
            return False
        if len(self._latest) == _SEEN_IDS:
            self._earlier, self._latest = self._latest, {}
        self._latest[identity] = stem
        return True

    def forget(self, stem: str) -> None:
        """The segment will be read anew."""
        self._latest, self._earlier = (
            {identity: owner for identity, owner in seen.items() if owner != stem}
            for seen in (self._latest, self._earlier)
        )


class FollowedSegment:
    """A segment that is active, or sealed and not read to its end. Adds up in ``contents`` what is in its lines.

    Its calls raise as ``Filesystem.read``.
    """

    def __init__(self, stem: str, filesystem: Filesystem, contents: QueuedContents, seen_ids: SeenIds) -> None:
        """``contents`` and ``seen_ids`` are shared by all segments."""
        self.stem = stem
        self.sealed = False
        self.complaint = ""
        """Why it could not be read."""
        self.retry_at = 0.0
        """On the monotonic clock."""
        self._filesystem = filesystem
        self._contents = contents
        self._seen_ids = seen_ids
        self._stamp = Stamp()
        self._reset()

    def rename(self, path: Path, name: SegmentName) -> None:
        """It has this name now."""
        self.path = path
        self.sealed = name.events is not None
        self.retry_at = 0.0

    def unread(self) -> int:
        """How many bytes are to be read, about; 0 when all that is there was read."""
        size, written = self._filesystem.look(self.path)
        now = monotonic()
        if not self._stamp.differs((size, written), now):
            return 0
        if size == self._seen and self._is_as_read():
            self._stamp.looked(now)
            return 0
        return max(1, size - self._consumed if size > self._seen else size)

    def catch_up(self) -> None:
        """Read the whole lines that are new.

        A failed write is cut back, and then other lines take its place: when what was read is no longer there, the
        segment is read anew. It is also read anew before damage in an active one is believed, for the cut may have
        come in the middle of the reading.
        """
        look = self._filesystem.look(self.path)
        now = monotonic()
        if not (self._stamp.differs(look, now) or self.sealed):
            return
        content = self._filesystem.read(self.path, self._consumed - len(self._last))
        believed = content.startswith(self._last)
        damaged = self._consume(content) if believed else 0
        if not believed or (damaged and not self.sealed):
            self._contents.drop(self.stem)
            self._seen_ids.forget(self.stem)
            self._reset()
            damaged = self._consume(self._filesystem.read(self.path))
        if damaged:
            log.info("%d damaged lines of %s are in no context", damaged, self.path.name)
        self._stamp.looked(now)

    def _reset(self) -> None:
        self._consumed = 0
        """Offset behind the last whole line that was read."""
        self._last = b""
        """The bytes before it, at most ``_OVERLAP``."""
        self._seen = -1
        """Size up to which it was looked through; -1 before the first look."""

    def _is_as_read(self) -> bool:
        content = self._filesystem.read(self.path, self._consumed - len(self._last))
        return content.startswith(self._last) and content.find(b"\n", len(self._last)) < 0

    def _consume(self, content: bytes) -> int:
        """Add up the whole lines of the content, which begins with ``_last``; return how many are damaged."""
        overlap = len(self._last)
        start = self._consumed - overlap
        self._seen = start + len(content)
        end = content.rfind(b"\n") + 1
        if end <= overlap:
            return 0
        self._consumed = start + end
        self._last = content[max(0, end - _OVERLAP) : end]
        return self._add_up(content, overlap, end)

    def _add_up(self, content: bytes, first: int, end: int) -> int:
        """Add up the lines between the offsets; return how many are damaged."""
        damaged = 0
        # By customer, before which ``ts`` events are older than all the recent ones: counting them is enough.
        enough: dict[bytes, bytes] = {}
        older: Counter[tuple[bytes, bytes, bytes]] = Counter()
        # Backwards, for in the order of writing each event is the newest so far.
        for line in _backwards(content, first, end):
            if damage(line) is not None:
                damaged += 1
                continue
            counts = self._seen_ids.claim(line[ID_START:ID_END], self.stem)
            match = HEADING.match(line)
            if match is not None:
                ts, customer, activity = match.groups()
                if ts < enough.get(customer, b""):
                    older[customer, ts[:HOUR_CHARACTERS], activity] += counts
                    continue
            found = contribution(line)
            if found is not None:
                enough[found.customer.encode()] = self._contents.add(self.stem, found, counts=counts).encode()
        for (customer, hour, activity), events in older.items():
            if events:
                self._contents.count(self.stem, customer.decode(), hour.decode(), activity.decode(), events)
        return damaged


def _backwards(content: bytes, first: int, end: int) -> Iterator[bytes]:
    """The lines between the offsets, the last first, without their newlines."""
    while end > first:
        begin = content.rfind(b"\n", first, end - 1) + 1 or first
        yield content[begin : end - 1]
        end = begin
