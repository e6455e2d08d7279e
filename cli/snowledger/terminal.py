"""Progress bars and quantities for people. rich is loaded only where there is a terminal to draw on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_KIB = 1024
_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86400


@contextmanager
def progress(description: str, *, of_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr while the context lasts; nothing where stderr is not a terminal.

    Gives a function that takes what is done and the total (0: not known).
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    amount = DownloadColumn(binary_units=True) if of_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def size(count: float) -> str:
    """Bytes for people: ``512 bytes``, ``1.5 MiB``."""
    if count < _KIB:
        return f"{count:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        count /= _KIB
        if count < _KIB:
            return f"{count:.1f} {unit}"
    return f"{count / _KIB:.1f} TiB"


def duration(seconds: float) -> str:
    """A span for people: ``0.8 s``, ``12 min``, ``3 h``, ``2 days``."""
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    if seconds < _DAY_S:
        return f"{seconds / _HOUR_S:.1f} h"
    return f"{seconds / _DAY_S:.1f} days"


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 event``, ``2,000 events``, ``2 batches``."""
    plural = "" if number == 1 else "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{plural}"


def printable(text: str) -> str:
    """The text on one line and harmless to a terminal: whatever does not print is escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
