"""The end of the HTTP server: running calls are answered, nobody can hold it up, and the queue is sealed."""

import json
import os
import signal
import socket
from collections.abc import Callable

import anyio
import httpx2
import pytest
from starlette.types import Receive, Scope, Send
from tests.http.http_server import LEGACY, MODERN, HttpServer, call, request
from tests.http.wire import GET, Wire, echo
from tests.server.server_samples import EVENT

from snowledger_server._http import _serve
from snowledger_server._http._address import HttpAddress, listen

MOST_S = 5


def raw(era: str, tool: str, arguments: dict[str, object]) -> bytes:
    headers, body = request("tools/call", era, name=tool, arguments=arguments)
    content = json.dumps(body).encode()
    lines = [f"{name}: {value}" for name, value in {**headers, "host": "localhost"}.items()]
    return "\r\n".join(["POST /mcp HTTP/1.1", *lines, f"content-length: {len(content)}", "", ""]).encode() + content


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_a_signal_lets_running_calls_finish_whoever_else_is_connected(
    start: Callable[..., HttpServer], era: str
) -> None:
    server = start()
    with httpx2.Client(timeout=20) as client:
        logged = call(client, server.mcp, era, "log_event", EVENT).json()["result"]["structuredContent"]
        ticket = call(client, server.mcp, era, "submit_query", {"template": "activity_counts"}).json()
        waiting = {"ticket_id": ticket["result"]["structuredContent"]["ticket_id"], "wait_s": 20}
        idle, headers, body, *gone, asking = (
            socket.create_connection((server.host, server.port), timeout=20) for _ in range(6)
        )
        headers.sendall(b"POST /mcp HTTP/1.1\r\nhost: loc")
        body.sendall(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nabc")
        for client_that_goes in gone:
            client_that_goes.sendall(raw(era, "get_result", waiting))
            client_that_goes.close()
        asking.sendall(raw(era, "get_result", waiting))
        for _ in range(3):  # each is taken up after what was there before
            call(client, server.mcp, era, "get_context", {})
        assert server.end() < MOST_S
        answer = b""
        while piece := asking.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"status":"queued"' in answer
    assert server.ledger.spool.active_segments() == []
    assert logged["event_id"] in {event["activity_id"] for event in server.events()}
    for one in (idle, headers, body, asking):
        one.close()


@pytest.mark.parametrize("again", [False, True])
async def test_a_call_that_does_not_end_is_cancelled_sooner_after_a_second_signal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, again: bool
) -> None:
    monkeypatch.setattr(_serve, "DRAIN_S", 1 if not again else 30)
    running, cleaned_up, ended = anyio.Event(), anyio.Event(), anyio.Event()

    async def hang(_scope: Scope, _receive: Receive, _send: Send) -> None:
        running.set()
        try:
            await anyio.sleep(60)
        finally:
            cleaned_up.set()

    listeners = listen(HttpAddress("127.0.0.1", 0))
    started, left = anyio.Event(), anyio.Event()

    async def serve() -> None:
        await _serve.serve_http(hang, listeners, 10, None, started=started.set, leaving=left.set)
        ended.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            await started.wait()
            wire = await Wire.open(listeners[0].getsockname()[1])
            await wire.send(GET)
            await running.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            await left.wait()
            assert not ended.is_set()
            if again:
                os.kill(os.getpid(), signal.SIGTERM)
            await ended.wait()
            assert cleaned_up.is_set()
            assert not [record for record in caplog.records if record.exc_info], "it is no defect"
            await wire.close()


async def test_a_request_that_waits_for_its_client_to_read_does_not_hold_up_the_end() -> None:
    listeners = listen(HttpAddress("127.0.0.1", 0))
    started, ended = anyio.Event(), anyio.Event()

    async def serve() -> None:
        await _serve.serve_http(echo, listeners, 10, None, started=started.set, leaving=lambda: None)
        ended.set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            await started.wait()
            wire = await Wire.open(listeners[0].getsockname()[1])
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await wire.send(GET.replace(b"/ ", b"/20000000 ", 1) + GET)
            await anyio.sleep(0.5)
            began = anyio.current_time()
            os.kill(os.getpid(), signal.SIGTERM)
            await ended.wait()
            assert anyio.current_time() - began < MOST_S
            await wire.close()
