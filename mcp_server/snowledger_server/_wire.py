r"""Lines of bytes over two file descriptors, without blocking the event loop.

Pipes, sockets and terminals are polled: wait until ready, then one `read` or `write`. What the event loop
cannot poll (regular files, /dev/null, every standard stream on Windows) is read and written in a worker
thread.

- A line is all bytes up to one `\n`. The last line may lack it.
- A line written is never torn: bytes once accepted are written in order, whatever happens to the task that
  brought them.
- Memory is bounded: one line of at most `MAX_LINE` bytes on the way in; on the way out a writer waits while
  more than `HIGH_WATER` bytes are queued.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAX_LINE = 2 * 2**20
"""Longest line read, in bytes: an event of the largest size allowed (256 KiB) with every character written as a
six-byte escape, and room for the rest."""

CHUNK = 64 * 2**10
"""Bytes per system call: the capacity of a Linux pipe, so that one read empties a full one."""

HIGH_WATER = 64 * 2**10
"""Bytes that may wait for a slow client before writers wait too: asyncio's own default for its transports."""


class LineTooLong(ValueError):  # noqa: N818  (an event on the wire, like EndOfStream)
    """A line was longer than the limit and has been skipped; the next one can be read."""


async def _in_daemon_thread(call: Callable[..., T], *args: object) -> T:
    """Run a blocking call in a thread that does not keep the process alive.

    Not `anyio.to_thread`: the interpreter waits for its threads at exit, and one of ours may be blocked for
    ever in a read from a client that stays silent.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # a cancelled waiter must not make set_result fail

    def run() -> None:
        try:
            outcome.set_result(call(*args))
        except OSError as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="stdio", daemon=True).start()
    return await asyncio.wrap_future(outcome)


class LineReader:
    """The lines that arrive on a file descriptor. One task at a time may receive."""

    def __init__(self, fd: int, *, polled: bool, limit: int = MAX_LINE) -> None:
        """Read from `fd`: after polling it if `polled`, else in a thread. The caller closes `fd`."""
        self._fd = fd
        self._polled = polled
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0  # no newline before this offset
        self._skipping = False  # inside a line that is too long
        self._ended = False

    async def receive(self) -> bytes:
        """Return the next line without its newline. A cancelled wait loses nothing when the fd is polled.

        Raises:
            LineTooLong: a line over the limit has just been skipped.
            anyio.EndOfStream: the other side has closed, or the descriptor has failed.
        """
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            if len(self._buffer) > self._limit:
                self._skipping = True
            if self._skipping:
                self._buffer.clear()
            self._searched = len(self._buffer)
            if self._ended:
                raise anyio.EndOfStream
            chunk = await self._read()
            self._ended = not chunk
            # At the end a newline completes an unterminated last line; after a whole one it is a blank line.
            self._buffer += chunk or b"\n"
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        if self._skipping or end > self._limit:
            self._skipping = False
            raise LineTooLong
        return line

    async def _read(self) -> bytes:
        try:
            while self._polled:
                await anyio.wait_readable(self._fd)
                try:
                    return os.read(self._fd, CHUNK)
                except BlockingIOError:  # another reader of the same stream was faster
                    continue
            return await _in_daemon_thread(os.read, self._fd, CHUNK)
        except OSError:  # a reset socket, a terminal that was hung up: nothing more will come
            return b""


class LineWriter:
    """Writes lines to a file descriptor. Any number of tasks may write; `run` must be running meanwhile."""

    def __init__(self, fd: int, *, polled: bool) -> None:
        """Write to `fd`, which is in non-blocking mode if `polled`. The caller closes `fd`."""
        self._fd = fd
        self._polled = polled
        self._queue = bytearray()
        self._filled = anyio.Event()
        self._progress = anyio.Event()
        self._broken = False
        self._hurried = False

    async def write(self, line: bytes) -> None:
        """Accept a line, then wait while more than `HIGH_WATER` bytes are queued.

        Raises:
            anyio.BrokenResourceError: the other side has closed.
        """
        if self._polled and not self._queue and not self._broken:
            line = line[self._push(line) :]  # usually all of it, with no task switch
        if line and not self._broken:
            self._queue += line
            self._filled.set()
            while len(self._queue) > HIGH_WATER and not self._hurried:
                await self._progress.wait()
        if self._broken:
            raise anyio.BrokenResourceError

    async def flush(self) -> None:
        """Wait until the queue is empty or the other side has closed."""
        while self._queue:
            await self._progress.wait()

    def hurry(self) -> None:
        """From now on `write` never waits: shutdown must not depend on a client that does not read."""
        self._hurried = True
        self._progressed()

    async def run(self) -> None:
        """Write what `write` could not write at once. Runs until cancelled."""
        while True:
            await self._filled.wait()
            self._filled = anyio.Event()
            while self._queue:
                if self._polled:
                    await anyio.wait_writable(self._fd)
                    written = self._push(self._queue)
                else:
                    written = await self._push_in_thread(bytes(self._queue[:CHUNK]))
                del self._queue[:written]
                self._progressed()

    def _push(self, data: bytes | bytearray) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError:
            return self._give_up(data)

    async def _push_in_thread(self, data: bytes) -> int:
        try:
            return await _in_daemon_thread(os.write, self._fd, data)
        except OSError:
            return self._give_up(data)

    def _give_up(self, data: bytes | bytearray) -> int:
        self._broken = True
        self._queue.clear()
        return len(data)

    def _progressed(self) -> None:
        self._progress.set()
        self._progress = anyio.Event()
