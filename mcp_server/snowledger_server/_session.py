"""One client on the wire, from its first byte to an orderly end.

The SDK's serving loop reads and writes a `Session` as its stream pair. It has two habits that this module
works around:

- It cancels every running handler as soon as the read side ends. So the read side ends only when each request
  that was delivered has been answered, or when `DRAIN_S` is over.
- It fixes the protocol era at the first request. A probe (`server/discover`) says nothing about the era the
  client will choose, so a loop that has served nothing but a probe ends at the next request, and a new loop
  begins with it.

The end is the same whatever brings it about (end of input, SIGTERM, SIGINT, `stop`, a client that closed its
side): stop reading, let the running calls finish, write their answers, leave. A second signal skips the
waiting.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
import mcp_types as types
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import ServerMessageMetadata, SessionMessage

from snowledger_server._encoded_answers import EncodedAnswers
from snowledger_server._jsonrpc import BadMessage, decode, encode, too_long
from snowledger_server._stdio import claim_stdio
from snowledger_server._wire import MAX_LINE, LineReader, LineTooLong, LineWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from anyio.abc import TaskStatus
    from mcp.server.lowlevel import Server

logger = logging.getLogger(__name__)

DRAIN_S: Final = 0.6
"""Longest wait for running calls at the end, in seconds. The promise is exit within 1 s, and 0.4 s are left
for the server's own cleanup (flushing and sealing the queue) and the interpreter's."""

FLUSH_S: Final = 0.05
"""Longest wait for the very last bytes to leave, in seconds: many times what a client that reads needs, and
little enough to be lost on one that does not."""

MAX_IN_FLIGHT: Final = 256
"""Requests served at once; reading pauses above it. A client that pipes a file ends its input with this many
calls still running, and at 3,000 calls/s they take 0.1 s of `DRAIN_S`. Desktop clients keep fewer than
ten."""


async def serve_stdio(
    server: Server[Any], *, stop: anyio.Event | None = None, leaving: Callable[[], None] | None = None
) -> None:
    """Serve one client over standard input and output until it leaves, a signal comes or `stop` is set.

    Enters the server's lifespan once, serves both protocol eras, and returns normally in every orderly case:
    end of input, SIGTERM, SIGINT, `stop`, a closed standard output. Meanwhile fd 0 is the null device and fd
    1 is standard error. The wire is newline-delimited JSON
    (https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#stdio). Windows has no signal
    receiver: there Ctrl-C cancels the caller, who gets `KeyboardInterrupt`. `leaving` is called once when the end
    begins, so that calls that wait for something can answer at once.

    Raises:
        OSError: standard input or standard output is closed.
        Exception: whatever the server's lifespan raises, as it is.
    """
    if not any(isinstance(middleware, EncodedAnswers) for middleware in server.middleware):
        server.middleware.append(EncodedAnswers())
    with claim_stdio() as (reader, writer):
        session = Session(reader, writer, leaving)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(writer.run, name="stdio writer")
                if sys.platform != "win32":
                    await tasks.start(_watch_signals, session, name="stdio signals")
                if stop is not None:
                    tasks.start_soon(_watch_event, stop, session, name="stdio stop event")
                await _serve(server, session)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if len(group.exceptions) > 1:
                raise
            # The lifespan's own error, for callers that tell start-up failures apart by type.
            raise group.exceptions[0] from group.exceptions[0].__cause__


async def _serve(server: Server[Any], session: Session) -> None:
    async with server.lifespan(server) as state:
        while not session.ended:
            await serve_dual_era_loop(
                server,
                session,
                session,
                lifespan_state=state,
                init_options=server.create_initialization_options(),
            )
        await session.flush()


async def _watch_signals(session: Session, *, task_status: TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        seen = 0
        async for number in signals:
            seen += 1
            if seen > 1:
                logger.warning("%s again: not waiting for running calls", signal.Signals(number).name)
                session.abort()
                return  # a third one meets Python's default and ends the process
            logger.info("%s: finishing running calls", signal.Signals(number).name)
            session.stop()


async def _watch_event(event: anyio.Event, session: Session) -> None:
    await event.wait()
    session.stop()


class Session:
    """Both streams of the SDK's loop: its `ReadStream` and its `WriteStream` of `SessionMessage`.

    The SDK closes its streams whenever a loop ends. That means nothing here: the wire belongs to
    `serve_stdio`, and the next loop uses the same session.
    """

    def __init__(self, reader: LineReader, writer: LineWriter, leaving: Callable[[], None] | None = None) -> None:
        """Speak over the two halves of a wire; `leaving` is called when reading stops."""
        self.ended = False
        self._reader = reader
        self._writer = writer
        self._leaving = leaving
        self._stopping = False
        self._reading = anyio.CancelScope()
        self._draining = anyio.CancelScope()
        self._unanswered = 0
        self._settled = anyio.Event()
        self._metadata = ServerMessageMetadata(on_request_unanswered=self._settle_unanswered)
        self._next: types.JSONRPCRequest | None = None  # opens the next loop
        self._era_open = True  # only probes so far
        self._probed = False  # this loop has served a probe

    def stop(self) -> None:
        """Stop reading; the session ends when all is answered, after `DRAIN_S` at the latest."""
        if not self._stopping:
            self._stopping = True
            self._draining.deadline = anyio.current_time() + DRAIN_S
            self._reading.cancel()
            if self._leaving is not None:
                self._leaving()

    def abort(self) -> None:
        """Stop reading and do not wait: what is still running is cancelled."""
        self.stop()
        self._draining.cancel()
        self._writer.hurry()

    async def flush(self) -> None:
        """Give the last answers `FLUSH_S` to leave."""
        with anyio.move_on_after(FLUSH_S):
            await self._writer.flush()

    # The read stream.

    async def receive(self) -> SessionMessage:
        """Return the client's next message, having answered whatever was not one.

        Raises:
            anyio.EndOfStream: this loop is over; `ended` tells whether the session is.
        """
        while not self._stopping:
            message = None
            with anyio.CancelScope() as self._reading:
                await self._settle_below(MAX_IN_FLIGHT)
                message = self._next or await self._read()
                if isinstance(message, types.JSONRPCRequest) and self._begins_new_loop(message):
                    await self._settle_below(1)
                    raise anyio.EndOfStream
            if self._reading.cancelled_caught:
                continue
            if isinstance(message, types.JSONRPCRequest):
                self._unanswered += 1
                return SessionMessage(message, self._metadata)
            if message is not None:
                return SessionMessage(message)
        with self._draining:
            await self._settle_below(1)
            await self._writer.flush()
        if self._unanswered:
            logger.warning("%d calls were still running after %s s and are cancelled", self._unanswered, DRAIN_S)
        self._writer.hurry()
        self.ended = True
        raise anyio.EndOfStream

    async def _read(self) -> types.JSONRPCMessage | None:
        try:
            line = await self._reader.receive()
            if line and not line.isspace():
                return decode(line)
        except anyio.EndOfStream:
            self.stop()
        except LineTooLong:
            logger.warning("skipped a line over %d bytes", MAX_LINE)
            await self._write(too_long(MAX_LINE))
        except BadMessage as bad:
            logger.warning("answered a line that is no message: %s", bad)
            await self._write(bad.reply)
        return None

    def _begins_new_loop(self, request: types.JSONRPCRequest) -> bool:
        """Tell whether this loop must end before `request`, which then waits in `_next`."""
        if self._probed:
            self._probed = False
            self._next = request
            return True
        self._next = None
        self._probed = self._era_open = self._era_open and request.method == "server/discover"
        return False

    # The write stream.

    async def send(self, item: SessionMessage, /) -> None:
        """Write a message; a slow client makes the caller wait, a client that is gone does not."""
        try:
            await self._write(encode(item.message))
        finally:
            if isinstance(item.message, types.JSONRPCResponse | types.JSONRPCError):
                self._settle()

    async def _write(self, line: bytes) -> None:
        try:
            await self._writer.write(line)
        except anyio.BrokenResourceError:
            if not self._stopping:
                logger.info("the client has closed its side")
            self.stop()

    # Which requests are still running.

    def _settle(self) -> None:
        self._unanswered -= 1
        self._settled.set()

    async def _settle_unanswered(self) -> None:
        self._settle()

    async def _settle_below(self, limit: int) -> None:
        while self._unanswered >= limit:
            self._settled = anyio.Event()
            await self._settled.wait()

    # The rest of both protocols.

    async def aclose(self) -> None:
        """Do nothing: the wire outlives the loop."""

    def __aiter__(self) -> Self:
        """Iterate over messages."""
        return self

    async def __anext__(self) -> SessionMessage:
        """Return what `receive` returns."""
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Do nothing, as `aclose`."""
