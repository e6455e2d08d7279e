"""The spool folder: its layout, its permissions and what is in it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from . import _platform
from ._errors import SpoolError, UnsafeFileError
from ._filesystem import Filesystem, OsFilesystem
from ._names import ACTIVE_SUFFIX, SegmentName, parse_segment_name

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = b"snowledger spool 1\n"
"""What the file ``format`` says. Another number is another layout: refused and left untouched (fault 26)."""


class SpoolStatistics(NamedTuple):
    """What waits in the queue, at one moment."""

    events: int
    """Queue depth: lines in sealed and active segments."""
    bytes: int
    sealed_segments: int
    active_segments: int
    oldest_age_s: float | None
    """Age of the oldest segment's first event; None when the queue is empty."""
    torn_tails: int
    """Unacknowledged fragments that recovery cut off and kept aside."""


class SealedSegment(NamedTuple):
    """A sealed segment: immutable until the warehouse has confirmed it."""

    path: Path
    name: SegmentName

    @property
    def events(self) -> int:
        """How many lines its name promises."""
        return self.name.events or 0


@dataclass(frozen=True, slots=True)
class Spool:
    """Paths of a spool folder that exists and is private. Made by ``open_spool``."""

    home: Path
    filesystem: Filesystem = field(default_factory=OsFilesystem)

    @property
    def queue(self) -> Path:
        """Segments."""
        return self.home / "queue"

    @property
    def torn(self) -> Path:
        """Torn tails that recovery kept aside."""
        return self.home / "torn"

    @property
    def dead_letters(self) -> Path:
        """Lines, rows and files that could not be loaded."""
        return self.home / "dead_letters"

    @property
    def dead_letters_lock(self) -> Path:
        """Held for the moment in which somebody changes them."""
        return self.home / "dead_letters.lock"

    @property
    def servers(self) -> Path:
        """One lock file for each live server process."""
        return self.home / "servers"

    @property
    def work(self) -> Path:
        """Scratch files of the uploader; may be emptied whenever no uploader runs."""
        return self.home / "work"

    @property
    def artifacts(self) -> Path:
        """Results of queries, one file for each ticket, named by its id."""
        return self.home / "artifacts"

    @property
    def uploader_lock(self) -> Path:
        """Held by the one uploader of this spool."""
        return self.home / "uploader.lock"

    @property
    def uploader_status(self) -> Path:
        """What the uploader says of itself."""
        return self.home / "uploader.json"

    @property
    def state(self) -> Path:
        """Contexts and tickets (SQLite); may be deleted whenever nobody uses the spool.

        Contexts are then rebuilt from the warehouse, tickets are lost.
        """
        return self.home / "state.db"

    @property
    def kill_switch(self) -> Path:
        """How the kill switch stands; not there until it is used."""
        return self.home / "kill_switch.json"

    @property
    def stage_folder(self) -> Path:
        """The name of the folder in Snowflake's stage that is this spool's own; not there until it is used."""
        return self.home / "stage_folder"

    @property
    def refresh_request(self) -> Path:
        """Is there while somebody wants contexts brought up to date; holds nothing."""
        return self.home / "refresh.request"

    def request_refresh(self) -> None:
        """Ask the uploader to bring the contexts up to date. Takes microseconds. Raises ``OSError``."""
        self.refresh_request.touch(mode=_platform.PRIVATE_FILE)

    def take_refresh_request(self) -> bool:
        """Whether somebody asked since the last look. Raises ``OSError``."""
        try:
            self.refresh_request.unlink()
        except FileNotFoundError:
            return False
        return True

    def sealed_segments(self) -> list[SealedSegment]:
        """The sealed segments, oldest first."""
        return [
            SealedSegment(self.queue / name, parsed) for name, parsed in self._segments() if parsed.events is not None
        ]

    def active_segments(self) -> list[Path]:
        """The segments that have a writer, or had one that is gone."""
        return [self.queue / name for name, parsed in self._segments() if parsed.events is None]

    def statistics(self) -> SpoolStatistics:
        """Measure the queue. Reads the active segments (at most one segment's bytes for each writer)."""
        events = size = sealed = active = 0
        oldest: int | None = None
        for name, parsed in self._segments():
            path = self.queue / name
            try:
                if parsed.events is None:
                    content = self.filesystem.read(path)
                    events += content.count(b"\n")
                    size += len(content)
                    active += 1
                else:
                    size += self.filesystem.size(path)
                    events += parsed.events
                    sealed += 1
            except (OSError, UnsafeFileError):
                continue  # sealed or drained since the listing, or not a segment of ours
            oldest = parsed.opened_ms if oldest is None else min(oldest, parsed.opened_ms)
        age = None if oldest is None else max(0.0, time.time() - oldest / 1000)
        torn = sum(name.endswith(".torn") for name in self.filesystem.names(self.torn))
        return SpoolStatistics(events, size, sealed, active, age, torn)

    def _segments(self) -> list[tuple[str, SegmentName]]:
        names = ((name, parse_segment_name(name)) for name in self.filesystem.names(self.queue))
        return [(name, parsed) for name, parsed in names if parsed is not None]


def open_spool(home: Path) -> Spool:
    """Create the spool folder, or check an existing one.

    Raises:
        SpoolError: it cannot be created or written, others can enter it, or it has another format.
    """
    spool = Spool(home)
    _platform.make_private_folder(home)
    marker = home / "format"
    try:
        found = spool.filesystem.read(marker) if os.path.lexists(marker) else None
        if found in {None, FORMAT}:
            for folder in (spool.queue, spool.torn, spool.dead_letters, spool.servers, spool.work, spool.artifacts):
                _platform.make_private_folder(folder)
        if found is None:
            found = FORMAT
            write_small_file(marker, FORMAT)
    except OSError as error:
        message = f"cannot use the spool folder {home}: {error.strerror or error}"
        raise SpoolError(message) from error
    if found != FORMAT:
        text = ascii(found[:40].decode(errors="replace"))
        message = f"{marker} says {text}, this snowledger knows {FORMAT.decode().strip()!r}; nothing was touched"
        raise SpoolError(message)
    return spool


def write_small_file(path: Path, content: bytes, filesystem: Filesystem | None = None) -> None:
    """Replace a small file so that a reader, and a crash, sees the old content or the new.

    Raises ``OSError``; one of the two is then there.
    """
    filesystem = filesystem or OsFilesystem()
    draft = path.with_name(f".{path.name}.{time.time_ns():x}{ACTIVE_SUFFIX}")
    file = filesystem.create(draft)
    if file is None:
        message = f"{draft} was taken by another process"
        raise OSError(message)
    try:
        rest = content
        while rest:
            rest = rest[file.write(rest) :]
        file.sync()
        file.close()
        filesystem.rename(draft, path)
    except OSError:
        filesystem.remove(draft)
        raise
    finally:
        file.close()
    filesystem.sync_folder(path.parent)
