"""Whatever bytes a client sends: each line that comes back is protocol, the next call is answered, acks are kept."""

import json
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
import pytest
from tests.fuzz.fuzzing import INPUTS, Surface, fuzz
from tests.server.server_samples import EVENT, INSIGHT
from tests.server.stdio_wire import ENVELOPE, HANDSHAKE

from snowledger_queue import Origin, PressureLimits, RunnerTickets, Spool, intact_lines, open_spool, verify_segment
from snowledger_server import Caller, Identity, build_server, open_contexts, open_journal, open_queries
from snowledger_server._encoded_answers import EncodedAnswers
from snowledger_server._session import Session, _serve
from snowledger_server._wire import LineReader, LineWriter

PATIENCE_S = 20.0
"""A server that does not answer for so long hangs, busy as the machine may be."""

LIMITS = PressureLimits(max_bytes=2**40, events=2**40, age_s=1e9, min_free_bytes=0)
"""Nobody drains the queue, and memory's folder may be small."""

FORBIDDEN = (b"Traceback", b'File \\"', b"snowledger failed", b"-32603")
"""In no answer: a traceback, a failure nobody foresaw, an internal error."""

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("log_event", EVENT | {"link": "https://a.b/c", "revenue_impact": 1.5, "idempotency_key": "k"}),
    ("log_event", EVENT),
    ("log_insight", INSIGHT | {"valid_from": "2026-11-21T04:20:47Z"}),
    ("get_context", {"customer_id": "acme", "max_bytes": 4096}),
    ("submit_query", {"template": "errors", "params": {"since": "7d"}, "byte_cap": 1024}),
    ("get_result", {"ticket_id": "0" * 32, "wait_s": 0}),
    ("cancel_query", {"ticket_id": "0" * 32}),
]
METHODS: list[tuple[str, dict[str, Any]]] = [
    *(("tools/call", {"name": name, "arguments": arguments, "_meta": {}}) for name, arguments in CALLS),
    *(("resources/read", {"uri": f"snowledger://{path}"}) for path in ("context/acme", "templates", "tickets/1")),
    *((method, {}) for method in ("ping", "tools/list", "resources/list", "resources/templates/list", "x")),
]
TOKENS = [
    *(b'{"jsonrpc":"2.0",', b'"id":', b"null", b"true", b"[", b"]", b"{", b"}", b"-1", b"1.5", b"NaN", b"1e999", b"{}"),
    *(b'"method":"initialize"', b'"method":"server/discover"', b'"method":"notifications/cancelled"', b'"params":'),
    *(b'"result":{}', b'"error":{}', b'"_meta":', b'"progressToken":1', b"snowledger://artifacts/../x", b"[" * 3000),
]


@contextmanager
def served(spool: Spool) -> Iterator[tuple[int, int]]:
    """The server in a thread; where to write requests and where to read what it says."""
    from_client, to_server = os.pipe()
    from_server, to_client = os.pipe()
    os.set_blocking(to_client, False)

    async def serve() -> None:
        caller = Caller(Identity("acme", frozenset()), Origin("1", "s"))
        with open_contexts(spool, 300) as contexts, open_queries(spool, None) as queries:
            async with open_journal(spool, LIMITS, caller.origin) as journal, anyio.create_task_group() as tasks:
                server = build_server(journal, contexts, queries, lambda _context: caller, "1")
                server.middleware.append(EncodedAnswers())
                lines = LineWriter(to_client, polled=True)
                tasks.start_soon(lines.run)
                await _serve(server, Session(LineReader(from_client, polled=True), lines, queries.leave))
                tasks.cancel_scope.cancel()

    thread = Thread(target=anyio.run, args=[serve])
    thread.start()
    try:
        yield to_server, from_server
    finally:
        os.close(to_server)
        thread.join(PATIENCE_S)
        for descriptor in (from_client, from_server, to_client):
            os.close(descriptor)
    assert not thread.is_alive(), "the server has not ended"


class Wire:
    """What the client has said and heard."""

    def __init__(self, to_server: int, from_server: int) -> None:
        self.acked: set[str] = set()
        self._to_server = to_server
        self._from_server = from_server
        self._heard = b""
        self._probes = 0

    def run(self, data: bytes) -> str:
        """Send the input, then a request of nothing that exists, and read until that is answered."""
        self._probes += 1
        probe = f"probe {self._probes}"
        sent = b'%b\n{"jsonrpc":"2.0","id":"%b","method":"nothing"}\n' % (data, probe.encode())
        answers: list[dict[str, Any]] = []
        while all(answer.get("id") != probe for answer in answers):
            readable, writable, _ = select.select(
                [self._from_server], [self._to_server] if sent else [], [], PATIENCE_S
            )
            assert readable or writable, "the server does not answer"
            if writable:
                sent = sent[os.write(self._to_server, sent[: select.PIPE_BUF]) :]
            if readable:
                answers += self._receive()
        return self._outcome(answers)

    def _receive(self) -> Iterator[dict[str, Any]]:
        *lines, self._heard = (self._heard + os.read(self._from_server, 2**16)).split(b"\n")
        for line in lines:
            assert not any(words in line for words in FORBIDDEN), line
            answer = json.loads(line)
            assert answer["jsonrpc"] == "2.0"
            yield answer

    def _outcome(self, answers: list[dict[str, Any]]) -> str:
        outcome = "no answer yet"
        for answer in answers:
            if str(answer.get("id")).startswith("probe"):
                continue
            result = answer.get("result")
            outcome = "answered" if result and not result.get("isError") else "refused"
            if result and "event_id" in (result.get("structuredContent") or {}):
                self.acked.add(result["structuredContent"]["event_id"])
        return outcome


def seeds(*, modern: bool) -> list[bytes]:
    requests: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": params | ({"_meta": ENVELOPE} if modern else {})}
        for number, (method, params) in enumerate(METHODS, 1)
    ]
    others = [
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
        {"jsonrpc": "2.0", "id": 5, "result": {}},
    ]
    lines = [json.dumps(message).encode() for message in (*requests, *others)]
    return [*lines, b"\n".join(lines[:3])]


@pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])
def test_whatever_a_client_sends_answers_are_protocol_and_acks_are_kept(scratch: Path, modern: bool) -> None:
    spool = open_spool(scratch / "spool")
    runner = RunnerTickets(spool)
    runner.recover("2026-11-21T04:20:47.123456Z")
    with served(spool) as ends:
        wire = Wire(*ends)
        hello = ("tools/list", {"_meta": ENVELOPE}) if modern else ("initialize", HANDSHAKE)
        wire.run(json.dumps({"jsonrpc": "2.0", "id": 0, "method": hello[0], "params": hello[1]}).encode())
        if not modern:
            wire.run(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        outcomes = fuzz(Surface(seeds(modern=modern), TOKENS, wire.run), inputs=INPUTS // 2)
    runner.close()
    assert outcomes["answered"]
    assert outcomes["refused"]
    assert spool.active_segments() == []
    segments = spool.sealed_segments()
    assert all(not verify_segment(spool, segment).damaged for segment in segments)
    queued = {line[16:48].decode() for segment in segments for _, line in intact_lines(spool, segment)}
    assert wire.acked
    assert wire.acked <= queued
