"""Dead letters: what could not be loaded, with its reason and its original bytes.

One NDJSON file for each segment in the spool's ``dead_letters`` folder. A letter's id is derived from where it was
found and what it holds, so that writing it again after a crash changes nothing. Whole files, and whatever is too large
for a line, lie in its folder ``files``, which letters refer to: a letter is written before its file is moved there, and
forgotten after the file was moved back or deleted. So a letter whose file is not there has nothing left to do.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import _platform
from ._dead_letter import DeadLetter, KeptFile, decoded, encoded, file_letter
from ._errors import LockHeldError, QueueError, SpoolError
from ._locks import ProcessLock
from ._spool import write_small_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from ._spool import Spool

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 1024 * 1024
"""An original that is larger becomes a file. No event is: its features have at most 256 KiB."""

TURN_S = 5.0
"""How long to wait while another process changes the letters, which takes milliseconds, and up to ``HOLD_S``."""

HOLD_S = 0.5
"""After so long, who forgets many letters lets others change them: an uploader waits for ``TURN_S`` at most."""

YIELD_S = 0.2
"""For how long it lets them: who waits for a lock looks every 0.02 s."""


class DeadLetterBox:
    """The dead letters of a spool. Blocking; any process may change them, one at a time."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._folder = spool.dead_letters
        self._files = spool.dead_letters / "files"

    def put(self, letters: Iterable[DeadLetter]) -> int:
        """Keep the letters durably; return how many were not there before.

        Raises:
            OSError: they are not all kept, so their segment must not be deleted (fault 37).
        """
        with self._turn():
            return self._put(letters)

    def set_aside(self, path: Path, error_class: str, reason: str) -> DeadLetter:
        """Take a whole file out of the queue, which nobody may be writing to; a second time adds an attempt.

        Raises:
            OSError: it is where it was, at worst with a letter.
            UnsafeFileError: it is not a plain file.
        """
        size = self._spool.filesystem.size(path)
        try:
            sha256 = hashlib.sha256(self._spool.filesystem.read(path)).hexdigest()
        except OSError:
            sha256 = None
        letter = file_letter(error_class, reason, path.name, size, sha256)
        with self._turn():  # for both, or who removes the letter in between would leave a file that nobody knows of
            self._put([letter])
            self._move(path, self.file(letter))
        return letter

    def put_back(self, letter: DeadLetter) -> bool:
        """Bring a whole file back into the queue; whether it was there. The letter stays. Raises ``OSError``."""
        try:
            self._move(self.file(letter), self._spool.queue / letter.segment)
        except FileNotFoundError:
            return False
        return True

    def file(self, letter: DeadLetter) -> Path:
        """Where the letter's file is kept."""
        return self._files / (letter.file.name if letter.file else "")

    def letters(self) -> Iterator[DeadLetter]:
        """All letters, by segment and offset.

        Raises:
            SpoolError: a file is damaged; the message names it.
        """
        for path in sorted(self._folder.glob("*.ndjson")):
            yield from sorted(self._read(path), key=lambda letter: letter.offset)

    def remove(self, letters: Iterable[DeadLetter]) -> None:
        """Delete letters and their files. No error when some are gone already.

        Raises:
            OSError, SpoolError: they may be there still.
        """
        by_segment: dict[str, dict[str, DeadLetter]] = {}
        for letter in letters:
            by_segment.setdefault(letter.segment, {})[letter.letter_id] = letter
        segments = list(by_segment)
        while segments:
            with self._turn():
                until = time.monotonic() + HOLD_S
                while segments and time.monotonic() < until:
                    segment = segments.pop()
                    self._forget(self._path(segment), by_segment[segment])
                _platform.sync_folder(self._folder)
            if segments:
                time.sleep(YIELD_S)

    def _put(self, letters: Iterable[DeadLetter]) -> int:
        by_segment: dict[str, list[DeadLetter]] = {}
        for letter in letters:
            by_segment.setdefault(letter.segment, []).append(letter)
        new = 0
        for segment, found in by_segment.items():
            kept = {letter.letter_id: letter for letter in self._readable(self._path(segment))}
            for letter in found:
                before = kept.get(letter.letter_id)
                new += before is None
                kept[letter.letter_id] = (
                    self._without_bulk(letter)
                    if before is None
                    else before._replace(attempts=before.attempts + 1, reason=letter.reason)
                )
            self._write(self._path(segment), kept.values())
        return new

    def _forget(self, path: Path, gone: Mapping[str, DeadLetter]) -> None:
        for letter in gone.values():
            if letter.file is not None:
                self.file(letter).unlink(missing_ok=True)
        rest = [kept for kept in self._read(path) if kept.letter_id not in gone]
        if rest:
            self._write(path, rest)
        else:
            path.unlink(missing_ok=True)

    def _without_bulk(self, letter: DeadLetter) -> DeadLetter:
        if len(letter.original) <= MAX_LINE_BYTES:
            return letter
        sha256 = hashlib.sha256(letter.original).hexdigest()
        letter = letter._replace(file=KeptFile(f"{letter.letter_id}.line", len(letter.original), sha256))
        self._make_files()
        write_small_file(self.file(letter), letter.original)
        return letter._replace(original=b"")

    def _move(self, source: Path, target: Path) -> None:
        filesystem = self._spool.filesystem
        self._make_files()
        filesystem.rename(source, target)
        filesystem.sync_folder(target.parent)
        filesystem.sync_folder(source.parent)

    def _make_files(self) -> None:
        try:
            _platform.make_private_folder(self._files)
        except SpoolError as error:
            raise OSError(errno.EACCES, str(error)) from error

    def _path(self, segment: str) -> Path:
        return self._folder / f"{segment.removesuffix('.ndjson')}.ndjson"

    def _read(self, path: Path) -> Iterator[DeadLetter]:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return
        for line in content.splitlines():
            try:
                yield decoded(line)
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
        write_small_file(path, b"".join(map(encoded, letters)))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Raises ``OSError`` when the turn does not come."""
        deadline = time.monotonic() + TURN_S
        while True:
            try:
                lock = ProcessLock.acquire(self._spool.dead_letters_lock, "dead letters")
                break
            except LockHeldError as error:
                if time.monotonic() >= deadline:
                    raise OSError(errno.EBUSY, str(error)) from error
            except QueueError as error:
                raise OSError(errno.EACCES, str(error)) from error
        try:
            yield
        finally:
            lock.release()
