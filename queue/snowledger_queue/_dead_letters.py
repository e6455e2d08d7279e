"""Dead letters: what could not be loaded, with its reason and its original bytes.

One NDJSON file for each segment in the spool's ``dead_letters`` folder. A letter's id is derived from where it was
found and what it holds, so that writing it again after a crash changes nothing.
"""

from __future__ import annotations

import hashlib
import logging
import time
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import orjson

from ._errors import SpoolError
from ._event import timestamp
from ._spool import write_small_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ._spool import Spool

log = logging.getLogger(__name__)


class DeadLetter(NamedTuple):
    """One line that was set aside."""

    letter_id: str
    """16 hex digits."""
    error_class: str
    """``damaged`` (the bytes changed after they were written) or ``rejected`` (the warehouse refused the row)."""
    reason: str
    segment: str
    """File name of the segment."""
    offset: int
    """Bytes from its start."""
    first_seen: str
    attempts: int
    """How often it was set aside."""
    original: bytes
    """The line as found, without a newline."""

    def as_json(self) -> dict[str, object]:
        """The fields for JSON: the original as ``original_text``, or ``original_base64`` when it is not UTF-8."""
        fields: dict[str, object] = self._asdict()
        del fields["original"]
        try:
            return {**fields, "original_text": self.original.decode()}
        except UnicodeDecodeError:
            return {**fields, "original_base64": b64encode(self.original).decode()}


def dead_letter(error_class: str, reason: str, segment: str, offset: int, original: bytes) -> DeadLetter:
    """Make a letter seen now for the first time."""
    where = f"{segment}:{offset}:".encode()
    letter_id = hashlib.sha256(where + original).hexdigest()[:16]
    now = timestamp(datetime.now(UTC))
    return DeadLetter(letter_id, error_class, reason, segment, offset, now, 1, original)


class DeadLetterBox:
    """The dead letters of a spool. Blocking; one writer at a time (the uploader, or a replay under its lock)."""

    def __init__(self, spool: Spool) -> None:
        self._folder = spool.dead_letters

    def put(self, letters: Iterable[DeadLetter]) -> int:
        """Keep the letters durably; return how many were not there before.

        Raises:
            OSError: they are not all kept, so their segment must not be deleted (fault 37).
        """
        by_segment: dict[str, list[DeadLetter]] = {}
        for letter in letters:
            by_segment.setdefault(letter.segment, []).append(letter)
        new = 0
        for segment, found in by_segment.items():
            kept = {letter.letter_id: letter for letter in self._readable(self._path(segment))}
            new += sum(letter.letter_id not in kept for letter in found)
            for letter in found:
                before = kept.get(letter.letter_id)
                kept[letter.letter_id] = (
                    letter if before is None else before._replace(attempts=before.attempts + 1, reason=letter.reason)
                )
            self._write(self._path(segment), kept.values())
        return new

    def letters(self) -> Iterator[DeadLetter]:
        """All letters, by segment and offset.

        Raises:
            SpoolError: a file is damaged; the message names it.
        """
        for path in sorted(self._folder.glob("*.ndjson")):
            yield from sorted(self._read(path), key=lambda letter: letter.offset)

    def remove(self, letters: Iterable[DeadLetter]) -> None:
        """Forget letters (they were replayed). No error when some are gone already.

        Raises:
            OSError, SpoolError: they may be there still.
        """
        by_segment: dict[str, set[str]] = {}
        for letter in letters:
            by_segment.setdefault(letter.segment, set()).add(letter.letter_id)
        for segment, gone in by_segment.items():
            path = self._path(segment)
            rest = [kept for kept in self._read(path) if kept.letter_id not in gone]
            if rest:
                self._write(path, rest)
            else:
                path.unlink(missing_ok=True)

    def _path(self, segment: str) -> Path:
        return self._folder / f"{segment.removesuffix('.ndjson')}.ndjson"

    def _read(self, path: Path) -> Iterator[DeadLetter]:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return
        for line in content.splitlines():
            try:
                yield _decode(line)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                message = f"{path} is damaged and cannot be read as dead letters; move it out of the folder"
                raise SpoolError(message) from error

    def _readable(self, path: Path) -> list[DeadLetter]:
        """The letters of a file; a damaged one is moved aside, for it must neither block nor be overwritten."""
        try:
            return list(self._read(path))
        except SpoolError as error:
            aside = path.with_suffix(f".{time.time_ns():x}.damaged")
            path.replace(aside)
            log.error("%s; it is now %s", error, aside.name)  # noqa: TRY400 - an operator's line
            return []

    def _write(self, path: Path, letters: Iterable[DeadLetter]) -> None:
        write_small_file(
            path, b"".join(orjson.dumps(letter.as_json(), option=orjson.OPT_APPEND_NEWLINE) for letter in letters)
        )


def _decode(line: bytes) -> DeadLetter:
    fields = orjson.loads(line)
    if "original_text" in fields:
        original = fields.pop("original_text").encode()
    else:
        original = b64decode(fields.pop("original_base64"), validate=True)
    return DeadLetter(**fields, original=original)
