"""What is in the queue and not yet drained: every segment of every writer, followed as it grows."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from ._errors import UnsafeFileError
from ._followed import FollowedSegment, SeenIds
from ._names import ACTIVE_SUFFIX, parse_segment_name
from ._queued import QueuedContents
from ._stamp import Stamp

if TYPE_CHECKING:
    from ._context_reader import Queued
    from ._names import SegmentName
    from ._spool import Spool

log = logging.getLogger(__name__)

_FEW_NAMES = 256
"""So many are listed in 0.3 ms, and on Linux at one stroke. A longer listing is left to ``read``, which may be called
off the event loop, and is made twice: a segment that is renamed meanwhile can be missing under both names, but it is
renamed once in its life, so of two listings one has it."""

_NAME_BYTES = 256
"""Of a segment, take as long to read as one name takes to list."""

_RETRY_S = 1.0
"""A file that cannot be read is tried again this often."""

_ATTEMPTS = 3
"""A segment can be sealed between its listing and its reading, but only once."""


class QueueTail:
    """Follows all that lies in the queue, by every writer, before it is drained.

    A segment may go once ``state.db`` has its events. Recent events that are older than all of a customer's ten newest
    are not kept, also not for the time after those are gone.

    Lines that a live writer has written and not yet acknowledged are seen too. Damaged lines are not, for the drain
    will set them aside. Atoms and recent events are there once each, by id. An event whose id comes again (a repeated
    idempotency key, a line written again after a failed flush) is counted once, as long as fewer than 20,000 others
    came in between; else twice until it is drained.

    Blocking, never raises for what lies in the queue. One call at a time. Needs a file system that stamps folders and
    files when they change, in steps of at most 20 ms or, when its stamps are whole seconds, 2 s.
    """

    def __init__(self, spool: Spool) -> None:
        self._filesystem = spool.filesystem
        self._folder = spool.queue
        self._contents = QueuedContents()
        self._stamp = Stamp()
        self._listed = False
        self._complaint = ""
        self._names: dict[str, str] = {}
        """Stem by name of all that is in the folder; empty for what is not a segment."""
        self._files: dict[str, str] = {}
        """Name by stem."""
        self._open: dict[str, FollowedSegment] = {}
        """By stem: active ones, and sealed ones that were not read to their end."""
        self._seen_ids = SeenIds()

    def pending(self) -> int:
        """How many bytes ``read`` would read, about; 0 when it has nothing to do.

        Costs one ``stat`` for the folder and one for each active segment when nothing has changed. What has vanished
        is dropped at once, unless the folder has hundreds of names: then, and before the first ``read``, the listing
        counts as more than 64 KiB.
        """
        if self._folder_changed():
            if not self._listed or len(self._names) > _FEW_NAMES:
                return max(len(self._names), _FEW_NAMES + 1) * _NAME_BYTES
            self._list()
        return sum([self._unread(segment) for segment in list(self._open.values())])

    def read(self) -> None:
        """Catch up with the queue."""
        for _ in range(_ATTEMPTS):
            if self._folder_changed():
                self._list()
            # A writer's segments in their order; one that is gone must not keep the others back.
            missing = [stem for stem in sorted(self._open) if not self._catch_up(self._open[stem])]
            if not missing:
                return
            self._stamp.distrust()

    def version(self, customer: str) -> int:
        """Another number after something of the customer came or went; the same number means the same ``queued``."""
        return self._contents.version(customer)

    def queued(self, customer: str, drained: frozenset[str]) -> Queued:
        """What the customer has in the queue, but for the segments of these stems."""
        return self._contents.queued(customer, drained)

    # Names

    def _folder_changed(self) -> bool:
        try:
            return self._stamp.differs(self._filesystem.names_changed(self._folder), monotonic())
        except OSError as error:
            self._complain(error)
            return False

    def _list(self) -> None:
        """Find out which segments have come, gone or been sealed."""
        looked = monotonic()
        try:
            names = set(self._filesystem.names(self._folder))
            gone = self._names.keys() - names
            arrived = self._arrived(names)
            if len(names) > _FEW_NAMES or any(
                name.endswith(ACTIVE_SUFFIX) and self._names[name] not in arrived for name in gone
            ):
                names.update(self._filesystem.names(self._folder))
                gone = self._names.keys() - names
                arrived = self._arrived(names)
        except OSError as error:
            self._complain(error)
            return
        self._complaint = ""
        self._listed = True
        self._stamp.looked(looked)
        for name in gone:
            stem = self._names.pop(name)
            if self._files.get(stem) == name and stem not in arrived:
                self._drop(stem)
        for stem, (name, parsed) in arrived.items():
            self._place(stem, name, parsed, was_there=self._files.get(stem) not in gone)

    def _arrived(self, names: set[str]) -> dict[str, tuple[str, SegmentName]]:
        """The new segment names, by stem; the sealed one when both are there."""
        arrived: dict[str, tuple[str, SegmentName]] = {}
        for name in sorted(names - self._names.keys()):
            parsed = parse_segment_name(name)
            if parsed is None:
                self._names[name] = ""
            else:
                arrived.setdefault(parsed.stem, (name, parsed))
        return arrived

    def _place(self, stem: str, name: str, parsed: SegmentName, *, was_there: bool) -> None:
        """Follow the segment, which may be known by its active name."""
        known = self._files.get(stem)
        if known is not None and not known.endswith(ACTIVE_SUFFIX):
            if was_there:
                return  # a second file of that stem: looked at when the first is gone
            self._drop(stem)
            self._seen_ids.forget(stem)
        self._names[name] = stem
        self._files[stem] = name
        segment = self._open.get(stem)
        if segment is None:
            segment = FollowedSegment(stem, self._filesystem, self._contents, self._seen_ids)
            self._open[stem] = segment
        segment.rename(self._folder / name, parsed)

    def _drop(self, stem: str) -> None:
        self._contents.drop(stem)
        del self._files[stem]
        self._open.pop(stem, None)

    # Contents

    def _unread(self, segment: FollowedSegment) -> int:
        if segment.retry_at > monotonic():
            return 0
        try:
            unread = segment.unread()
        except FileNotFoundError:
            self._stamp.distrust()
            return 1
        except (OSError, UnsafeFileError) as error:
            self._set_aside(segment, error)
            return 0
        if not unread:
            self._settle(segment)
        return unread

    def _catch_up(self, segment: FollowedSegment) -> bool:
        """Read what is new in the segment; False when it has another name by now, or is gone."""
        try:
            segment.catch_up()
        except FileNotFoundError:
            return False
        except (OSError, UnsafeFileError) as error:
            self._set_aside(segment, error)
        else:
            self._settle(segment)
        return True

    def _settle(self, segment: FollowedSegment) -> None:
        """All that is there was read; a sealed segment never changes."""
        segment.complaint, segment.retry_at = "", 0.0
        if segment.sealed:
            del self._open[segment.stem]
            self._contents.settle(segment.stem)

    def _set_aside(self, segment: FollowedSegment, error: Exception) -> None:
        segment.retry_at = monotonic() + _RETRY_S
        if str(error) != segment.complaint:
            segment.complaint = str(error)
            log.warning("cannot read %s of the queue, trying again: %s", segment.path.name, error)

    def _complain(self, error: OSError) -> None:
        if str(error) != self._complaint:
            self._complaint = str(error)
            log.warning("cannot list the queue: %s", error)
