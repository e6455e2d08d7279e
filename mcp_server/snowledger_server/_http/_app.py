"""The application: what each request goes through, in the order of what it costs, before the protocol sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette

from snowledger_server._shares import Shares

from ._bodies import Bodies, replayed
from ._caller import CLIENT, HEADERS
from ._refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ._authentication import Authenticate
    from ._hosts import Hosts
    from ._rate import Rates

PATH = "/mcp"

MAX_IN_FLIGHT = 2048
"""Calls at once, from before their bodies are read, some 50 KB each; half of them for one customer. So a thousand
clients that all wait for one slow flush are still served."""

MAX_HEADERS = 32 * 1024
"""Bytes of a request's line and headers; h11's own limit is 16 KiB, and some single sign-on proxies send more."""

_HEADERS_TOO_LARGE = Refusal(431, f"The headers are too large; accepted are {MAX_HEADERS} bytes.")
_POST_ONLY = Refusal(405, "Only POST: answers are JSON, and there is no stream to open.", ((b"allow", b"POST"),))
_BUSY = Refusal(
    503, "Too many calls at once. Nothing was stored; repeat the call in a second.", ((b"retry-after", b"1"),)
)


class App:
    """The ASGI application."""

    def __init__(
        self,
        mcp: ASGIApp,
        hosts: Hosts,
        authenticate: Authenticate,
        rates: Rates,
        rejected: Callable[[int], None],
        routes: Sequence[BaseRoute] = (),
    ) -> None:
        """``mcp`` gets the calls that the guards let through; ``routes`` everything that is not for ``PATH``.

        ``rejected`` hears the status of each request that was refused.
        """
        self._mcp = mcp
        self._hosts = hosts
        self._authenticate = authenticate
        self._rates = rates
        self._rejected = rejected
        self._bodies = Bodies()
        self._others = Starlette(routes=routes)
        self._in_flight = Shares(MAX_IN_FLIGHT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = dict(scope["headers"])
        # h11 looks at the size of what is incomplete alone; and a read is of 256 KiB.
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum([len(name) + len(value) for name, value in scope["headers"]])
        if size > MAX_HEADERS:
            refusal: Refusal | None = _HEADERS_TOO_LARGE
        else:
            refusal = self._hosts.refusal(headers, scope["server"][0] if scope["server"] else None)
        if refusal is None:
            if scope["path"] != PATH:
                await self._others(scope, receive, send)
                return
            refusal = await self._call(scope, headers, receive, send)
        if refusal is not None:
            self._rejected(refusal.status)
            await refusal.send(send)

    async def _call(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send) -> Refusal | None:
        client = self._authenticate(headers)
        if isinstance(client, Refusal):
            return client
        if scope["method"] != "POST":
            return _POST_ONLY
        refusal = self._rates.refusal(client.key)
        if refusal is not None:
            return refusal
        customer = client.identity.customer
        if not self._in_flight.take(customer):
            return _BUSY
        try:
            body = await self._bodies.read(customer, headers, receive)
            if body is None or isinstance(body, Refusal):
                return body
            scope[CLIENT], scope[HEADERS] = client, headers
            try:
                await self._mcp(scope, replayed(body, receive), send)
            finally:
                self._bodies.release(customer, body)
        finally:
            self._in_flight.give(customer)
        return None
