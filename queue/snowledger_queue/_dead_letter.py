"""One dead letter: what could not be loaded, why, and its original bytes."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from ._event import timestamp

CLASSES = ("damaged", "rejected", "incompatible", "unreadable", "foreign")
"""The classes of errors; see ``DeadLetter.error_class``."""


class KeptFile(NamedTuple):
    """A file in the folder ``dead_letters/files``."""

    name: str
    size: int
    sha256: str | None
    """64 hex digits; None when it cannot be read."""


class DeadLetter(NamedTuple):
    """A line, a row or a whole file that was set aside."""

    letter_id: str
    """16 hex digits."""
    error_class: str
    """``damaged`` (the bytes changed after they were written), ``rejected`` (the warehouse refused the row),
    ``incompatible`` (a version of the event that this snowledger does not know), ``unreadable`` (a file that the disk
    does not give) or ``foreign`` (a file in the queue that is no segment)."""
    reason: str
    segment: str
    """File name of the segment."""
    offset: int
    """Bytes from its start."""
    first_seen: str
    attempts: int
    """How often it was set aside."""
    original: bytes
    """The line as found, without a newline; empty when there is a file, or nothing is left."""
    file: KeptFile | None = None
    """Where the original is, when that is a whole file, or larger than a line may be."""

    def as_json(self) -> dict[str, object]:
        """The fields for JSON: the original as ``original_text``, ``original_base64`` if not UTF-8, or ``file``."""
        fields: dict[str, object] = self._asdict()
        del fields["original"], fields["file"]
        if self.file is not None:
            return {**fields, "file": self.file._asdict()}
        try:
            return {**fields, "original_text": self.original.decode()}
        except UnicodeDecodeError:
            return {**fields, "original_base64": b64encode(self.original).decode()}


def dead_letter(error_class: str, reason: str, segment: str, offset: int, original: bytes) -> DeadLetter:
    """Make a letter seen now for the first time."""
    where = f"{segment}:{offset}:".encode()
    letter_id = hashlib.sha256(where + original).hexdigest()[:16]
    return DeadLetter(letter_id, error_class, reason, segment, offset, _now(), 1, original)


def file_letter(error_class: str, reason: str, segment: str, size: int, sha256: str | None) -> DeadLetter:
    """Make a letter for a whole file, seen now for the first time. One name and content always have the same id."""
    letter_id = hashlib.sha256(f"{segment}:file:{size}:{sha256}".encode()).hexdigest()[:16]
    kept = KeptFile(f"{letter_id}-{segment}", size, sha256)
    return DeadLetter(letter_id, error_class, reason, segment, 0, _now(), 1, b"", kept)


def encoded(letter: DeadLetter) -> bytes:
    """The letter's line, with its newline."""
    return orjson.dumps(letter.as_json(), option=orjson.OPT_APPEND_NEWLINE)


def decoded(line: bytes) -> DeadLetter:
    """A letter from its line. Raises ``ValueError``, ``TypeError``, ``KeyError`` or ``AttributeError``."""
    fields = orjson.loads(line)
    if "file" in fields:
        return DeadLetter(**{**fields, "original": b"", "file": KeptFile(**fields["file"])})
    if "original_text" in fields:
        original = fields.pop("original_text").encode()
    else:
        original = b64decode(fields.pop("original_base64"), validate=True)
    return DeadLetter(**fields, original=original)


def _now() -> str:
    return timestamp(datetime.now(UTC))
