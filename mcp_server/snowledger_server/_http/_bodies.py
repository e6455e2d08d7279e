"""Requests' bodies, read as a whole before anything is done with them, and never more than there is memory for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snowledger_server._shares import Shares
from snowledger_server._wire import MAX_LINE

from ._refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Message, Receive

MAX_BODY = MAX_LINE
"""What a line may have on stdio."""

MAX_HELD = 64 * 2**20
"""Bytes of all large bodies at once, half of them for one customer: thirty of the largest, so fifteen of one."""

SMALL_BODY = 16 * 1024
"""What is never refused for want of room. An event of the usual size has 1 KB, and as many bodies of this size as there
are calls at once have 32 MiB."""

_TOO_LARGE = Refusal(413, f"The request is too large; accepted are {MAX_BODY} bytes.")
_NO_ROOM = Refusal(
    503, "Too many large requests at once. Nothing was stored; repeat the call in a second.", ((b"retry-after", b"1"),)
)


class Bodies:
    """Counts the bytes of all large bodies that are held, by the customer."""

    def __init__(self, max_held: int = MAX_HELD) -> None:
        self._held = Shares(max_held)

    async def read(self, customer: str, headers: Mapping[bytes, bytes], receive: Receive) -> bytearray | Refusal | None:
        """The body, until ``release``; a refusal when it is too large; None when the client is gone."""
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > MAX_BODY:
            return _TOO_LARGE
        body = bytearray()
        counted = 0
        complete = False
        try:
            while not complete:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                body += message["body"]
                if len(body) > MAX_BODY:
                    return _TOO_LARGE
                if len(body) > SMALL_BODY:
                    if not self._held.take(customer, len(body) - counted):
                        return _NO_ROOM
                    counted = len(body)
                complete = not message["more_body"]
        finally:
            if not complete:
                self._held.give(customer, counted)
        return body

    def release(self, customer: str, body: bytearray) -> None:
        """The body is not needed any more."""
        if len(body) > SMALL_BODY:
            self._held.give(customer, len(body))


def replayed(body: bytearray, receive: Receive) -> Receive:
    """The body once more, as one piece, and then what comes after it."""
    pending = [bytes(body)]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replay
