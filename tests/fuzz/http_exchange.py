"""One connection to an HTTP server: bytes that may be anything, and what has to come back for them."""

import contextlib
import socket
import struct
from typing import NamedTuple

import h11
from tests.acceptance.ledger import PATIENCE_S

from snowledger_server._http._app import MAX_HEADERS

PROBE = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"

_RESET = struct.pack("ii", 1, 0)
"""Of SO_LINGER: a hundred thousand connections that wait for late packets would take all ports."""


class Answer(NamedTuple):
    method: bytes
    """Of what it answers."""
    status: int
    content_type: bytes
    body: bytes


class Said(NamedTuple):
    """What a server has to find in the bytes of a connection."""

    methods: list[bytes]
    """Of each complete request, and one for bytes that are none: each of them gets an answer."""
    open: bool
    """Whether the next request may follow at once."""


def said(data: bytes) -> Said:
    """As a server reads it that gets all of it in one piece, and answers at once."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADERS)
    if data:  # nothing would say that the client is gone
        connection.receive_data(data)
    methods: list[bytes] = []
    method = b"GET"
    try:
        while (event := connection.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Request):
                method = event.method
            elif isinstance(event, h11.EndOfMessage):
                methods.append(method)
                method = b"GET"
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    return Said(methods, open=False)
                connection.start_next_cycle()
    except h11.RemoteProtocolError:
        return Said([*methods, method], open=False)
    return Said(methods, open=connection.their_state is h11.IDLE and not connection.trailing_data[0])


def exchange(address: tuple[str, int], data: bytes) -> list[Answer]:
    """Send it and take the answer to each request that it has; where one may follow, that is answered too."""
    methods, open_ = said(data)
    if open_:
        methods, data = [*methods, b"GET"], data + PROBE
    answers: list[Answer] = []
    connection = h11.Connection(h11.CLIENT)
    with socket.create_connection(address, timeout=PATIENCE_S) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        # Who is refused need not be heard out; what the server has said until then is read all the same.
        with contextlib.suppress(ConnectionError):
            client.sendall(data)
        for method in methods:
            try:
                answers.append(_answer(client, connection, method))
            except ConnectionError:
                # A head over the limit is refused where the server happens to see it, and the rest cuts that off.
                assert len(data) > MAX_HEADERS
                return answers
    if open_:
        probed = answers.pop()
        assert probed.status == 200, probed
        assert probed.body == b'{"status":"ok"}', probed
    return answers


def _answer(client: socket.socket, connection: h11.Connection, method: bytes) -> Answer:
    if connection.our_state is not h11.IDLE:
        connection.start_next_cycle()
    connection.send(h11.Request(method=method, target="/", headers=[("host", "localhost")]))
    connection.send(h11.EndOfMessage())
    status, content_type, body = 0, b"", b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            piece = client.recv(65536)
            if not piece and not status:
                raise ConnectionError("the connection ends without an answer")
            connection.receive_data(piece)
        elif isinstance(event, h11.Response):
            status, content_type = event.status_code, dict(event.headers).get(b"content-type", b"")
        elif isinstance(event, h11.Data):
            body += event.data
    return Answer(method, status, content_type, body)
