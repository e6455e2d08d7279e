"""The names of segment files, which carry what a reader must know without opening them.

``<opened>-<writer>-<sequence>.open`` while a writer appends, ``<opened>-<writer>-<sequence>-<events>.ndjson``
once sealed: ``opened`` is when the first event came (milliseconds since 1970, 13 digits, so that names sort by
age), ``writer`` 12 random hex digits of the writing process, ``sequence`` its counter.
"""

from __future__ import annotations

import re
from typing import NamedTuple

ACTIVE_SUFFIX = ".open"
SEALED_SUFFIX = ".ndjson"
# Numbers may outgrow their width: a wrong clock must not make a segment that nobody finds again.
_STEM = r"(?P<opened>[0-9]{13,})-(?P<writer>[0-9a-f]{12})-(?P<sequence>[0-9]{8,})"
_ACTIVE = re.compile(_STEM + r"\.open")
_SEALED = re.compile(_STEM + r"-(?P<events>[0-9]+)\.ndjson")


class SegmentName(NamedTuple):
    """A parsed segment name. ``events`` counts the lines of a sealed segment; None while it is active."""

    opened_ms: int
    writer: str
    sequence: int
    events: int | None

    @property
    def stem(self) -> str:
        """What the active and the sealed name share."""
        return f"{self.opened_ms:013d}-{self.writer}-{self.sequence:08d}"

    @property
    def active(self) -> str:
        """The file name while a writer appends."""
        return self.stem + ACTIVE_SUFFIX

    def sealed(self, events: int) -> str:
        """The file name once sealed with ``events`` lines."""
        return f"{self.stem}-{events}{SEALED_SUFFIX}"


def parse_segment_name(name: str) -> SegmentName | None:
    """The parts of a segment's file name; None for any other file."""
    match = _SEALED.fullmatch(name) or _ACTIVE.fullmatch(name)
    if match is None:
        return None
    parts = match.groupdict()
    events = parts.get("events")
    return SegmentName(
        int(parts["opened"]), parts["writer"], int(parts["sequence"]), None if events is None else int(events)
    )
