"""What is in the queue and cannot be read: it holds nobody up, and is set aside when the disk is the reason."""

from __future__ import annotations

import errno
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING

from snowledger_queue import QueueError, parse_segment_name

if TYPE_CHECKING:
    from pathlib import Path

    from snowledger_queue import DeadLetterBox, Spool

log = logging.getLogger(__name__)

RETRY_S = 30.0
"""A file that cannot be read or recovered stays where it is and is tried again this often; the others are not held up
by it, and its error is logged no more often."""

ATTEMPTS = 3
"""After so many, over a minute, what the disk does not give is set aside: a disk that answers again later has it still,
and ``dead-letter replay`` brings it back."""

STRANGE_S = 60.0
"""A file that is no segment and has not been written to for so long is set aside."""

_OF_THE_DISK = {errno.EIO, getattr(errno, "EBADMSG", errno.EIO), getattr(errno, "EUCLEAN", errno.EIO)}
"""What says that the file is bad, and not this process short of memory, descriptors or rights."""


class Unreadable:
    """Paths that are passed over for now. Blocking; for one thread at a time."""

    def __init__(self, spool: Spool, box: DeadLetterBox) -> None:
        self._spool = spool
        self._box = box
        self._attempts: Counter[Path] = Counter()
        self._retry_at = 0.0
        self.paths: set[Path] = set()

    def look(self) -> None:
        """From time to time, have all of them tried again, and set aside what does not belong into the queue."""
        if time.monotonic() < self._retry_at:
            return
        self._retry_at = time.monotonic() + RETRY_S
        self.paths.clear()
        names = self._spool.filesystem.names(self._spool.queue)
        self._attempts = Counter({path: count for path, count in self._attempts.items() if path.name in names})
        for name in names:
            if parse_segment_name(name) is None:
                self._look_at_strange(self._spool.queue / name)

    def failed(self, path: Path, error: OSError | QueueError) -> None:
        """A file could not be read, and that is logged already: pass it over; set it aside if that goes on."""
        self.paths.add(path)
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            self._attempts[path] += 1
            if self._attempts[path] >= ATTEMPTS:
                self._set_aside(path, "unreadable", f"the disk does not give it: {error.strerror or error}")

    def problem(self) -> str | None:
        """What stays in the queue though nobody writes to it; None when there is nothing."""
        names = sorted(path.name for path in self.paths)
        if not names:
            return None
        return f"{len(names)} files in the queue cannot be read, the first is {names[0]}; the log says why"

    def _look_at_strange(self, path: Path) -> None:
        try:
            _, written_ns = self._spool.filesystem.look(path)
        except (OSError, QueueError):
            return  # a folder, a link: nothing that this may touch
        if time.time() - written_ns / 1e9 >= STRANGE_S and path.name.isprintable():
            self._set_aside(path, "foreign", "its name is not that of a segment, so nothing loads it")

    def _set_aside(self, path: Path, error_class: str, reason: str) -> None:
        try:
            file = self._spool.filesystem.claim(path)
            if file is None:
                return  # somebody writes to it, or it is gone
            try:
                letter = self._box.set_aside(path, error_class, reason)
            finally:
                file.close()
        except (OSError, QueueError) as error:
            log.error("cannot set %s aside: %s", path.name, error)  # noqa: TRY400 - an operator's line
            return
        self.paths.discard(path)
        log.error("%s is set aside as dead letter %s: %s", path.name, letter.letter_id, reason)
