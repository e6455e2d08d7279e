"""Lines of NDJSON: cutting blocks of bytes into lines in bounded memory, and making events of them."""

from __future__ import annotations

from collections.abc import Iterator

from snowledger_queue import (
    RESERVED_ACTIVITIES,
    Event,
    InvalidEventError,
    Origin,
    damage,
    event_from_envelope,
    parse_strict,
)

MAX_LINE_BYTES = 1024 * 1024
"""The largest event (256 KiB of features) fits four times over."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CHECKSUM_MEMBER = b',"_crc":"'
_CHECKSUM_AT = slice(-19, -10)
"""Where a line of a segment has the name of its checksum member: the member's width is fixed."""


class LineCutter:
    """Cuts blocks into lines at line feeds and nowhere else, and holds one line at most.

    ``feed`` and then ``end`` give each line's number and its bytes without line end; None instead of the
    bytes of a line over ``MAX_LINE_BYTES``.
    """

    def __init__(self) -> None:
        self._number = 0
        self._rest = b""
        self._dropping = False

    def feed(self, block: bytes) -> Iterator[tuple[int, bytes | None]]:
        """The lines that end in this block."""
        *lines, rest = (self._rest + block).split(b"\n")
        for line in lines:
            yield self._next(line)
        self._dropping = self._dropping or len(rest) > MAX_LINE_BYTES
        self._rest = b"" if self._dropping else rest

    def end(self) -> Iterator[tuple[int, bytes | None]]:
        """The last line, if it has no line end."""
        if self._rest or self._dropping:
            yield self._next(self._rest)

    def _next(self, line: bytes) -> tuple[int, bytes | None]:
        self._number += 1
        too_long = self._dropping or len(line) > MAX_LINE_BYTES
        self._dropping = False
        if self._number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        return self._number, None if too_long else line.removesuffix(b"\r")


def check_checksum(line: bytes) -> None:
    """Check a line that ends with a checksum member; any other has nothing to check.

    Raises:
        InvalidEventError: the line is not what snowledger wrote.
    """
    if line[_CHECKSUM_AT] == _CHECKSUM_MEMBER:
        reason = damage(line)
        if reason is not None:
            raise InvalidEventError("_crc", reason)


def parse_event(line: bytes, origin: Origin) -> Event:
    """Validate a line (an envelope, or the short form) and make an event of it.

    What only snowledger writes is taken from a line with a checksum, and from no other.

    Raises:
        InvalidEventError: what is wrong with it.
    """
    envelope = parse_strict(line)
    if not isinstance(envelope, dict):
        raise InvalidEventError("event", "must be a JSON object")
    reason = RESERVED_ACTIVITIES.get(str(envelope.get("activity")))
    if reason is not None and line[_CHECKSUM_AT] != _CHECKSUM_MEMBER:
        raise InvalidEventError("activity", f"{envelope['activity']} {reason}")
    return event_from_envelope(envelope, origin)
