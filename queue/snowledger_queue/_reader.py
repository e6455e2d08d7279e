"""Reading sealed segments: every line is verified before anything is done with it."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from ._event import SCHEMA_VERSION
from ._line import CRC_SUFFIX_BYTES, damage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._spool import SealedSegment, Spool


_CURRENT = b',"_schema_version":%d' % SCHEMA_VERSION
_VERSION = re.compile(rb',"_schema_version":([0-9]{1,9})(?=[,}])')

_TAIL_BYTES = 256
"""Where the version is looked for: it comes with the last members, and what the user wrote stands before them."""


class DamagedLine(NamedTuple):
    """A line that cannot be loaded."""

    offset: int
    """Bytes from the start of the segment."""
    line: bytes
    """Its bytes, without the newline."""
    error_class: str
    """``damaged``: it is not what was written; ``incompatible``: not for this version."""
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
    if any(_flaw(line) is not None for line in lines):
        damaged = [DamagedLine(*found) for found in _find_damage(lines)]
    intact = len(lines) - len(damaged)
    if tail:
        offset = len(content) - len(tail)
        reason = "the line has no end: the segment was cut after it was sealed"
        damaged.append(DamagedLine(offset, tail, "damaged", reason))
    missing = max(0, segment.events - len(lines) - bool(tail))
    digest = hashlib.sha256(content).digest()
    return VerifiedSegment(segment, digest, len(content), intact, tuple(damaged), missing)


def intact_lines(spool: Spool, segment: SealedSegment) -> Iterator[tuple[int, bytes]]:
    """The offset and bytes (without newline) of each intact line. Raises as ``verify_segment``."""
    offset = 0
    for line in spool.filesystem.read(segment.path).split(b"\n")[:-1]:
        if _flaw(line) is None:
            yield offset, line
        offset += len(line) + 1


def _find_damage(lines: list[bytes]) -> Iterator[tuple[int, bytes, str, str]]:
    offset = 0
    for line in lines:
        flaw = _flaw(line)
        if flaw is not None:
            yield offset, line, *flaw
        offset += len(line) + 1


def _flaw(line: bytes) -> tuple[str, str] | None:
    """The class and the reason for which a line cannot be loaded; None when it can."""
    reason = damage(line)
    if reason is not None:
        return "damaged", reason
    if line.endswith(_CURRENT, 0, -CRC_SUFFIX_BYTES):
        return None
    # Other members may follow in an event of a later version, or in a sampled one.
    versions = _VERSION.findall(line, max(0, len(line) - _TAIL_BYTES))
    if not versions or int(versions[-1]) <= SCHEMA_VERSION:
        return None
    return "incompatible", f"an event of version {int(versions[-1])}; this snowledger knows {SCHEMA_VERSION}"
