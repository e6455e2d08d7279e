"""The process's standard input and output as a private wire.

While claimed, the wire is a pair of private duplicates; fd 0 is the null device and fd 1 is standard error,
so that a stray `print` (or a child process) neither eats a request nor tears a reply: "the server MUST NOT
write anything to its stdout that is not a valid MCP message"
(https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#stdio).
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import stat
import sys
from typing import TYPE_CHECKING

from snowledger_server._wire import LineReader, LineWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN, STDOUT, STDERR = 0, 1, 2


@contextlib.contextmanager
def claim_stdio() -> Iterator[tuple[LineReader, LineWriter]]:
    """Take fds 0 and 1 for the wire; on exit put them back, in the blocking mode they had.

    Raises:
        OSError: standard input or standard output is closed.
    """
    # The numbers prove nothing: what was opened first in a process started without them (`<&-`) has them now.
    if sys.__stdin__ is None or sys.__stdout__ is None:
        raise OSError(errno.EBADF, "standard input and standard output must be open")
    with contextlib.ExitStack() as undo:
        wire_in, wire_out = _duplicate(STDIN), _duplicate(STDOUT)
        polled_in = _can_poll(wire_in, selectors.EVENT_READ)
        # Polling the output needs non-blocking mode, which belongs to the open file and not to our
        # descriptor. Where standard error is the same file (a terminal, `2>&1`), logging would then fail
        # whenever the file is full.
        polled_out = _can_poll(wire_out, selectors.EVENT_WRITE) and not _same_file(STDOUT, STDERR)
        # What a thread may still be blocked on is never closed: the number could be given to another file.
        if polled_in:
            undo.callback(os.close, wire_in)
        if polled_out:
            undo.callback(os.close, wire_out)
        if polled_out and sys.platform != "win32":  # the platform is for mypy
            undo.callback(os.set_blocking, wire_out, os.get_blocking(wire_out))
            os.set_blocking(wire_out, False)
        undo.callback(os.dup2, wire_in, STDIN)
        _point(STDIN, os.devnull, os.O_RDONLY)
        undo.callback(_restore_stdout, wire_out)
        try:
            os.dup2(STDERR, STDOUT)
        except OSError:  # standard error is closed
            _point(STDOUT, os.devnull, os.O_WRONLY)
        yield LineReader(wire_in, polled=polled_in), LineWriter(wire_out, polled=polled_out)


def _duplicate(fd: int) -> int:
    """Duplicate `fd` above the standard descriptors. Not inherited by child processes (PEP 446)."""
    copy = os.dup(fd)
    if copy > STDERR:
        return copy
    try:
        return _duplicate(fd)
    finally:
        os.close(copy)


def _point(fd: int, path: str, flags: int) -> None:
    opened = os.open(path, flags)
    os.dup2(opened, fd)
    os.close(opened)


def _restore_stdout(wire_out: int) -> None:
    # What was printed while fd 1 was diverted may still be in Python's buffer: it must not reach the wire
    # now.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    os.dup2(wire_out, STDOUT)


def _can_poll(fd: int, event: int) -> bool:
    if sys.platform == "win32" or stat.S_ISREG(os.fstat(fd).st_mode):
        return False
    with selectors.DefaultSelector() as selector:
        try:
            selector.register(fd, event)
        except OSError:  # epoll refuses /dev/null, for one
            return False
    return True


def _same_file(fd: int, other: int) -> bool:
    try:
        return os.path.sameopenfile(fd, other)
    except OSError:  # one of them is closed
        return False
