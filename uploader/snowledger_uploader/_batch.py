"""Forming a batch: verify sealed segments and put the loadable files together."""

from __future__ import annotations

import hashlib
import logging
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from snowledger_queue import QueueError, dead_letter, intact_lines, verify_segment

from ._warehouse import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from snowledger_queue import DeadLetter, SealedSegment, Spool, VerifiedSegment

log = logging.getLogger(__name__)


class Line(NamedTuple):
    """An intact line and where it comes from."""

    segment: str
    offset: int
    content: bytes
    """Without newline."""


class FormedBatch(NamedTuple):
    """A batch with the segments it was made of."""

    batch: Batch
    segments: tuple[SealedSegment, ...]
    letters: tuple[DeadLetter, ...]
    """What is damaged or of an unknown version; it is not in the batch."""
    scratch: tuple[Path, ...]
    """Files to delete with the segments."""
    unreadable: tuple[tuple[SealedSegment, OSError | QueueError], ...]
    """Segments that were passed over, and why; they stay where they are."""


def form_batch(spool: Spool, segments: Iterable[SealedSegment], max_bytes: int, max_files: int) -> FormedBatch:
    """Verify segments from the head and make one batch of them, at least one. Blocking.

    A segment without damage is loaded as it is; of a damaged one, a copy of its intact lines. What cannot be read or
    copied is passed over, so nothing is raised, and no copy is left that the batch does not name.
    """
    files: list[Path] = []
    scratch: list[Path] = []
    taken: list[SealedSegment] = []
    letters: list[DeadLetter] = []
    digests: list[bytes] = []
    unreadable: list[tuple[SealedSegment, OSError | QueueError]] = []
    events = size = 0
    for segment in segments:
        if len(taken) == max_files:
            break
        try:
            if taken and size + spool.filesystem.size(segment.path) > max_bytes:
                break
            verified = verify_segment(spool, segment)
            copied = bool(verified.damaged) and verified.events > 0
            lines = [Line(segment.path.name, *line) for line in intact_lines(spool, segment)] if copied else []
        except (OSError, QueueError) as error:
            log.error("cannot read %s, left where it is: %s", segment.path.name, error)  # noqa: TRY400
            unreadable.append((segment, error))
            continue
        path, digest, length = segment.path, verified.sha256, verified.size
        if copied:
            try:
                path, digest, length = write_lines(spool, lines)
            except OSError as error:
                # What goes without a dead letter makes room for sure, and then the copy may fit.
                if {one.path.name for one in taken} - {letter.segment for letter in letters}:
                    break
                reason = f"cannot copy the intact lines of {segment.path.name}, left where it is: {error}"
                log.error("%s", reason)  # noqa: TRY400 - an operator's line
                unreadable.append((segment, QueueError(reason)))  # no OSError, which might be taken for the segment's
                continue
            scratch.append(path)
        letters += _letters(verified)
        taken.append(segment)
        if verified.events:
            files.append(path)
            digests.append(digest)
            events += verified.events
            size += length
    batch = Batch(content_id(digests), tuple(files), events, size)
    return FormedBatch(batch, tuple(taken), tuple(letters), tuple(scratch), tuple(unreadable))


def _letters(verified: VerifiedSegment) -> list[DeadLetter]:
    """For what the segment lost, and for what is damaged or of an unknown version."""
    name = verified.segment.path.name
    letters = [dead_letter(one.error_class, one.reason, name, one.offset, one.line) for one in verified.damaged]
    if verified.missing:
        reason = f"{verified.missing} lines less than when the segment was sealed: its end is gone"
        letters.insert(0, dead_letter("damaged", reason, name, verified.size, b""))
    return letters


def batch_of_lines(spool: Spool, lines: Sequence[Line]) -> Batch:
    """A batch of one scratch file with these lines. Blocking. Raises ``OSError``."""
    path, digest, size = write_lines(spool, lines)
    return Batch(content_id([digest]), (path,), len(lines), size)


def write_lines(spool: Spool, lines: Sequence[Line]) -> tuple[Path, bytes, int]:
    """Write the lines to a scratch file; return its path, SHA-256 and size.

    Raises ``OSError``; then nothing is left of the file.
    """
    content = b"".join(line.content + b"\n" for line in lines)
    digest = hashlib.sha256(content)
    # Not named by content: another batch with the same lines may be deleted while this one waits.
    path = spool.work / f"{uuid.uuid4().hex}.ndjson"
    try:
        path.write_bytes(content)
    except OSError:
        # Nobody else knows its name, and on a full disk each attempt would take what has become free.
        with suppress(OSError):  # the first error is the one to report
            spool.filesystem.remove(path)
        raise
    return path, digest.digest(), len(content)


def content_id(digests: Sequence[bytes]) -> str:
    """A batch's id: SHA-256 over the SHA-256 of each of its files, in order, as 64 hex digits."""
    return hashlib.sha256(b"".join(digests)).hexdigest()
