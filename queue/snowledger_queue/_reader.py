"""Reading sealed segments: every line is verified before anything is done with it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from ._line import damage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._spool import SealedSegment, Spool


class DamagedLine(NamedTuple):
    """A line that is not what was written."""

    offset: int
    """Bytes from the start of the segment."""
    line: bytes
    """Its bytes, without the newline."""
    reason: str


class VerifiedSegment(NamedTuple):
    """A sealed segment after every line was checked."""

    segment: SealedSegment
    sha256: bytes
    """Of the segment's bytes, as they are on disk."""
    size: int
    """Bytes on disk."""
    events: int
    """Intact lines."""
    damaged: tuple[DamagedLine, ...]
    missing: int
    """Lines fewer than the name promises: the file lost its end after it was sealed. Normally 0."""


def verify_segment(spool: Spool, segment: SealedSegment) -> VerifiedSegment:
    """Read a sealed segment (whole, at most ``RotationPolicy.max_bytes`` and one group) and check every line.

    Raises:
        OSError: it cannot be read (it stays where it is).
        UnsafeFileError: it is not a plain file.
    """
    content = spool.filesystem.read(segment.path)
    lines = content.split(b"\n")
    tail = lines.pop()
    damaged: list[DamagedLine] = []
    if any(damage(line) is not None for line in lines):
        damaged = [DamagedLine(*found) for found in _find_damage(lines)]
    intact = len(lines) - len(damaged)
    if tail:
        offset = len(content) - len(tail)
        damaged.append(DamagedLine(offset, tail, "the line has no end: the segment was cut after it was sealed"))
    missing = max(0, segment.events - len(lines) - bool(tail))
    digest = hashlib.sha256(content).digest()
    return VerifiedSegment(segment, digest, len(content), intact, tuple(damaged), missing)


def intact_lines(spool: Spool, segment: SealedSegment) -> Iterator[tuple[int, bytes]]:
    """The offset and bytes (without newline) of each intact line. Raises as ``verify_segment``."""
    offset = 0
    for line in spool.filesystem.read(segment.path).split(b"\n")[:-1]:
        if damage(line) is None:
            yield offset, line
        offset += len(line) + 1


def _find_damage(lines: list[bytes]) -> Iterator[tuple[int, bytes, str]]:
    offset = 0
    for line in lines:
        reason = damage(line)
        if reason is not None:
            yield offset, line, reason
        offset += len(line) + 1
