"""Requests of the protocol: one POST, one answer in JSON, nothing kept between them, in both eras.

The SDK's own application makes a session for each request on the wires up to 2025-11-25, with streams and tasks of its
own, and copies and encodes each answer several times on the newer one. So here a request goes straight to what the SDK
calls at the end of all that: ``classify_inbound_request``, which judges the newer wire's headers, and ``ServerRunner``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
from mcp.server.connection import Connection
from mcp.server.runner import ServerRunner, modern_error_data
from mcp.server.streamable_http import check_accept_headers
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    MCP_PROTOCOL_VERSION_HEADER,
    InboundLadderRejection,
    classify_inbound_request,
    find_duplicated_routing_header,
    unsupported_protocol_version_rejection,
)
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.requests import Request

from snowledger_server._encoded_answers import EncodedAnswers
from snowledger_server._jsonrpc import BadMessage, decode, encode

from ._caller import HEADERS
from ._refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.lowlevel import Server
    from mcp.shared.dispatcher import CallOptions
    from starlette.types import ASGIApp, Receive, Scope, Send

_NOT_JSON = Refusal(400, "The Content-Type must be application/json.")
_NOT_ACCEPTED = Refusal(406, "The client must accept application/json.")

_KEPT = 128
"""Accept headers that are known: each client sends one and the same, of at most 32 KiB."""


def posts(server: Server[Any]) -> ASGIApp:
    """The application that answers a POST, whose body ``receive`` must give as a whole."""
    server.middleware.append(EncodedAnswers())
    return partial(_answer, server)


async def _answer(server: Server[Any], scope: Scope, receive: Receive, send: Send) -> None:
    headers: Mapping[bytes, bytes] = scope[HEADERS]
    if not headers.get(b"content-type", b"").lower().startswith(b"application/json"):
        await _NOT_JSON.send(send)
        return
    if not _accepts_json(b",".join([value for name, value in scope["headers"] if name == b"accept"])):
        await _NOT_ACCEPTED.send(send)
        return
    try:
        message = decode((await receive())["body"])
    except BadMessage as bad:
        status, body = 400, bad.reply
    else:
        status, body = await _answered(server, message, Request(scope))
    content = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": content})
    await send({"type": "http.response.body", "body": body})


@lru_cache(_KEPT)
def _accepts_json(accept: bytes) -> bool:
    """Whether an answer in JSON is accepted; who does not say takes anything (RFC 9110, section 12.5.1)."""
    return not accept or check_accept_headers(Request({"type": "http", "headers": [(b"accept", accept)]}))[0]


async def _answered(server: Server[Any], message: types.JSONRPCMessage, request: Request) -> tuple[int, bytes]:
    """The status and the body of the answer."""
    # All that the protocol looks at; of several of a name the first counts.
    headers = [
        (name.decode(), value.decode("latin-1")) for name, value in request.scope["headers"] if name[:4] == b"mcp-"
    ]
    routing = dict(reversed(headers))
    version = routing.get(MCP_PROTOCOL_VERSION_HEADER, types.DEFAULT_NEGOTIATED_VERSION)
    older = version in HANDSHAKE_PROTOCOL_VERSIONS
    try:
        if isinstance(message, types.JSONRPCRequest):
            if older:
                connection = Connection.from_envelope(version, None, None)
            else:
                connection = _enveloped(message, headers, routing)
            exchange = _Exchange(message.id, ServerMessageMetadata(request_context=request))
            # The SDK's ``serve_one`` also closes what the connection holds, which is nothing here.
            runner = ServerRunner(server, connection, {})
            ask = runner.on_request
            # Where it is kept it refers to its runner: 16 objects that only the garbage collector would free.
            del runner.on_request
            result = await ask(exchange, message.method, message.params)
            return 200, encode(types.JSONRPCResponse(jsonrpc="2.0", id=message.id, result=result))
        if not older:
            _check_unanswered(message, version)
    except Exception as error:  # noqa: BLE001 - the one place that turns any failure into an answer
        data = modern_error_data(error)
        request_id = message.id if isinstance(message, types.JSONRPCRequest) else None
        status = 200 if older else ERROR_CODE_HTTP_STATUS.get(data.code, 200)
        return status, encode(types.JSONRPCError(jsonrpc="2.0", id=request_id, error=data))
    return 202, b""  # there is nothing that a notification could be about


def _enveloped(message: types.JSONRPCRequest, headers: list[tuple[str, str]], routing: Mapping[str, str]) -> Connection:
    """What the request itself tells of its client, on the newer wire.

    Raises:
        MCPError: it tells too little, or its headers say something else.
    """
    duplicated = find_duplicated_routing_header(headers)
    if duplicated is not None:
        raise MCPError(types.HEADER_MISMATCH, f"{duplicated} header appears more than once")
    found = classify_inbound_request({"method": message.method, "params": message.params}, headers=routing)
    if isinstance(found, InboundLadderRejection):
        raise MCPError(found.code, found.message, found.data)
    return Connection.from_envelope(found.protocol_version, found.client_info, found.client_capabilities)


def _check_unanswered(message: types.JSONRPCMessage, version: str) -> None:
    """Check a message that asks for nothing, on the newer wire.

    Raises:
        MCPError: it is no notification, or of a version that nobody knows.
    """
    if not isinstance(message, types.JSONRPCNotification):
        raise MCPError(types.INVALID_REQUEST, "Post a request or a notification; nobody waits for a response.")
    found = unsupported_protocol_version_rejection(version)
    if found is not None:
        raise MCPError(found.code, found.message, found.data)


_TRANSPORT = TransportContext(kind="streamable-http", can_send_request=False)


@dataclass
class _Exchange:
    """The SDK's ``DispatchContext`` where nothing but the answer can be sent."""

    request_id: types.RequestId
    message_metadata: ServerMessageMetadata
    transport: TransportContext = _TRANSPORT
    can_send_request: bool = False

    @cached_property
    def cancel_requested(self) -> anyio.Event:
        """Never set: a client that goes away does not cancel its call."""
        return anyio.Event()

    async def send_raw_request(
        self,
        method: str,
        params: Mapping[str, Any] | None,  # noqa: ARG002 - the interface
        opts: CallOptions | None = None,  # noqa: ARG002 - the interface
    ) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Tell nobody."""

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tell nobody."""
