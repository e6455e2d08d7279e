"""A spool that is there already: most commands look at one and must not make one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snowledger_queue import DeadLetter, Spool


def spool_exists(home: Path) -> bool:
    """Whether a spool was made there."""
    return (home / "format").is_file()


def existing_spool(home: Path) -> Spool:
    """Open the spool.

    Raises:
        CommandError: there is none.
        snowledger_queue.SpoolError: it cannot be used.
    """
    from snowledger_queue import open_spool

    if not spool_exists(home):
        raise CommandError(
            f"there is no spool at {home}: serve or import makes one; say where yours is with --home or SNOWLEDGER_HOME"
        )
    return open_spool(home)


def dead_letters(spool: Spool) -> Iterator[DeadLetter]:
    """All dead letters, by segment and offset.

    Raises:
        CommandError: a file of them cannot be read.
    """
    from snowledger_queue import DeadLetterBox, SpoolError

    try:
        yield from DeadLetterBox(spool).letters()
    except SpoolError as error:
        raise CommandError(str(error)) from None
