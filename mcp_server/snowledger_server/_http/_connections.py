"""Connections that are slow, idle or too many: what uvicorn would hold open for ever.

uvicorn waits without limit for the rest of a request, and for a client to read its answer. Each connection here notes
since when it waits for what, and once a second all of them are looked at: a timer for every request would cost more.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ._one_write import OneWrite

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Hashable

log = logging.getLogger(__name__)

HEADER_S = 10.0
"""From the first byte of a request, or the beginning of the connection, to the end of its headers."""

BODY_S = 30.0
"""From the first byte of a request to its last: 2 MiB at half a megabit per second."""

UNREAD_S = 30.0
"""How long an answer may wait for its client to read it."""

IDLE_S = 75
"""Between two requests: longer than the minute after which proxies let go of theirs, so that they do it first."""

MAX_UNREAD = 64 * 2**20
"""Bytes of all answers that wait for slow clients to read them: sixty of the largest. Who comes then is cut off. Each
connection has one at a time: its next request is not begun before."""

LINGER_S = 2.0
"""What remains of a refused request is read for so long after the refusal, lest its client miss the answer; a closed
connection gets as long to tell its client so."""

MAX_LINGERING = 64
"""Connections that were refused and are kept for ``LINGER_S``; of more the oldest is closed at once."""

HIGH_WATER = 64 * 1024
"""Bytes of an answer that may wait before it counts as unread. asyncio has as many without TLS, and eight times as many
with it."""

LOOK_S = 1.0

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 22\r\n\r\nToo many connections.\n"
)
_BAD = (
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 18\r\n\r\nThis is not HTTP.\n"
)


class Connections:
    """All that are open, by where they come from. One address may have half of them: others must get in too."""

    def __init__(self, most: int, ended: Callable[[str], None]) -> None:
        """``ended`` hears of each connection that is sent away: ``too many`` or ``too slow``."""
        self.most = most
        self.ended = ended
        self._open: dict[GuardedConnection, Hashable] = {}
        self._of: Counter[Hashable] = Counter()
        self._refused_ones: deque[tuple[float, socket.socket]] = deque()
        self._unread: dict[GuardedConnection, int] = {}
        self._refused = 0

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def has_room(self, address: object) -> bool:
        """Whether one more may come from this address."""
        return len(self._open) < self.most and self._of[origin(address)] < max(1, self.most // 2)

    def add(self, connection: GuardedConnection, address: object) -> None:
        """It is there, until ``discard``."""
        self._open[connection] = came_from = origin(address)
        self._of[came_from] += 1

    def refuse(self, peer: socket.socket, *, readable: bool) -> None:
        """Send it away; where it can read that, with the reason.

        Closed at once, what it has sent by then would make the kernel reset it, and the answer might be lost.
        """
        self._refused += 1
        self.ended("too many")
        with suppress(OSError):
            if readable:
                peer.send(_FULL)
            peer.shutdown(socket.SHUT_WR)
        self._refused_ones.append((anyio.current_time(), peer))
        if len(self._refused_ones) > MAX_LINGERING:
            self._refused_ones.popleft()[1].close()

    def unread(self, connection: GuardedConnection, size: int) -> bool:
        """Whether so many bytes may wait for its client; none: it has read them."""
        if not size:
            self._unread.pop(connection, None)
        elif sum(self._unread.values()) + size > MAX_UNREAD:
            return False
        else:
            self._unread[connection] = size
        return True

    def discard(self, connection: GuardedConnection) -> None:
        """It is closed."""
        self.unread(connection, 0)
        if connection in self._open:
            came_from = self._open.pop(connection)
            self._of[came_from] -= 1
            if not self._of[came_from]:
                del self._of[came_from]

    async def watch(self) -> None:
        """End what takes too long, until cancelled."""
        try:
            while True:
                await anyio.sleep(LOOK_S)
                now = anyio.current_time()
                for connection in list(self._open):
                    connection.look(now)
                while self._refused_ones and now - self._refused_ones[0][0] > LINGER_S:
                    self._refused_ones.popleft()[1].close()
                if self._refused:
                    log.warning("%d connections refused: %d are open", self._refused, len(self._open))
                    self._refused = 0
        finally:
            for _, peer in self._refused_ones:
                peer.close()


def origin(address: object) -> Hashable:
    """Whose connection it is, as far as its address tells: of IPv6 addresses everybody has a whole /64."""
    if not isinstance(address, tuple):
        return None  # a socket in the file system
    host: str = address[0]
    if ":" not in host:
        return host
    ip = ipaddress.IPv6Address(host)
    return str(ip.ipv4_mapped) if ip.ipv4_mapped else ip.packed[:8]


class GuardedConnection(H11Protocol):
    """uvicorn's, with deadlines."""

    def __init__(self, connections: Connections, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._all = connections
        self._incomplete_since: float | None = None
        self._unread_since: float | None = None
        self._closing_since: float | None = None
        self._held = False
        """What arrives is not looked at, until the client reads."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """One more client."""
        self._writes = OneWrite(transport)
        super().connection_made(self._writes)  # type: ignore[arg-type]  # it is one to all who use it
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self._incomplete_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was sent away."""
        self._held = False
        self._all.discard(self)
        # uvicorn does so only when there was no error, and the timer would keep all of this for ``IDLE_S``.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what has arrived; not while the client does not read, lest one more answer wait, uncounted."""
        if self.flow.write_paused:
            self._hold()
            return
        super().handle_events()
        incomplete = self.conn.their_state is h11.SEND_BODY or (
            self.conn.their_state is h11.IDLE and self.conn.trailing_data[0] != b""
        )
        if not incomplete:
            self._incomplete_since = None
        elif self._incomplete_since is None:
            self._incomplete_since = self.loop.time()
        if not incomplete and self.conn.our_state is h11.IDLE and not self.transport.is_closing():
            self._await_request()

    def _hold(self) -> None:
        """Begin no request. Only ``UNREAD_S`` counts meanwhile: it is not for the client to send anything."""
        self._held = True
        self._incomplete_since = None
        self._unset_keepalive_if_required()
        self.flow.pause_reading()

    def _go_on(self) -> None:
        """Take what has arrived meanwhile."""
        if self._held and not self.transport.is_closing():
            self._held = False
            self.flow.resume_reading()
            self.handle_events()

    def _await_request(self) -> None:
        """Wait for the next request, not for ever: uvicorn would after the rest of one that was refused before."""
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """The answer is written; one that came before the request's end is a refusal, and its client may linger."""
        if self.conn.their_state is h11.SEND_BODY:
            self._incomplete_since = self.loop.time()
        self._writes.flush()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client does not read."""
        self._unread_since = self.loop.time()
        super().pause_writing()
        if not self._all.unread(self, self.transport.get_write_buffer_size()):
            self.transport.abort()

    def resume_writing(self) -> None:
        """It does."""
        self._unread_since = None
        self._all.unread(self, 0)
        super().resume_writing()
        if self._held:
            self.loop.call_soon(self._go_on)  # with TLS it may be in the middle of a write

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's
        """Refuse what is no HTTP, and end; uvicorn would let a request that began well fail on that."""
        if self.cycle and not self.cycle.response_complete:  # type: ignore[truthy-bool]  # none at first
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            # As it is: h11 would take no body for a HEAD request, and none of the state matters any more.
            self.transport.write(_BAD)
        self.transport.close()

    def shutdown(self) -> None:
        """Close, or do so after the answer; what has not arrived by now is not waited for."""
        super().shutdown()
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.abort()

    def look(self, now: float) -> None:
        """End it if it is overdue."""
        if self.transport is None:
            return  # TLS has a deadline of its own
        if self.transport.is_closing():
            # The peer does not take what is still to be written.
            self._closing_since = self._closing_since or now
            if now - self._closing_since > LINGER_S:
                self.transport.abort()
        elif self._overdue(now):
            self._all.ended("too slow")
            self.transport.abort()

    def _overdue(self, now: float) -> bool:
        if self._unread_since is not None and now - self._unread_since > UNREAD_S:
            return True
        if self._incomplete_since is None:
            return False
        if self.conn.their_state is not h11.SEND_BODY:
            limit = HEADER_S
        elif self.cycle.response_complete:
            limit = LINGER_S  # refused before it was complete
        else:
            limit = BODY_S
        return now - self._incomplete_since > limit
