"""`snowledger serve` as a process: both eras end to end, an orderly end under load, and its own uploader."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from tests.acceptance.ledger import Ledger, wait_until
from tests.server.server_samples import ERAS, EVENT, INSIGHT, TOOLS

from snowledger_queue import RunnerTickets, parse_segment_name

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")

HANDSHAKE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}
ENDINGS = {"end of input": None, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}


class Wire:
    """A server process with its protocol by hand, for what the official client would not send."""

    def __init__(self, ledger: Ledger, *, new: bool = False) -> None:
        self.process = (ledger.start_new if new else ledger.start)("serve", "--no-uploader")
        self.send(0, "initialize", HANDSHAKE)
        assert self.receive()["id"] == 0
        self.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) :]

    def send(self, number: int, method: str, params: dict[str, Any]) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n")

    def call(self, number: int, tool: str, arguments: dict[str, Any]) -> None:
        self.send(number, "tools/call", {"name": tool, "arguments": arguments})

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.endswith(b"\n"), "the server has left"
        message: dict[str, Any] = json.loads(line)
        return message

    def answer(self, number: int, arguments: dict[str, Any]) -> str:
        self.call(number, "log_event", arguments)
        reply = self.receive()
        assert reply["id"] == number
        assert reply["result"]["isError"]
        return str(reply["result"]["content"][0]["text"])


@pytest.mark.parametrize("mode", ERAS)
async def test_a_session_of_either_era_ends_up_in_sealed_segments(ledger: Ledger, mode: str) -> None:
    acked = []
    async with Client(ledger.server("--no-uploader"), mode=mode) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert tools == TOOLS
        for tool, arguments in (("log_event", EVENT), ("log_insight", INSIGHT), ("log_event", EVENT)):
            result = await client.call_tool(tool, arguments)
            assert not result.is_error
            assert result.structured_content is not None
            acked.append(result.structured_content["event_id"])
        refused = await client.call_tool("log_event", {"activity": "sales.x", "feature_json": {}})
        assert refused.is_error
        with pytest.raises(MCPError):
            await client.call_tool("nothing", {})
    await anyio.to_thread.run_sync(wait_until, lambda: not ledger.processes("serve"))
    assert [json.loads(line)["activity_id"] for line in ledger.queued()] == acked
    assert ledger.spool.active_segments() == []


def test_a_client_that_probes_and_falls_back_is_served(ledger: Ledger) -> None:
    process = ledger.start("serve", "--no-uploader")
    wire = object.__new__(Wire)
    wire.process = process
    wire.send(1, "server/discover", {})
    wire.receive()
    wire.send(2, "initialize", HANDSHAKE)
    assert wire.receive()["result"]["protocolVersion"] == "2025-11-25"
    wire.call(3, "log_event", EVENT)
    assert wire.receive()["result"]["structuredContent"]["event_id"]


def test_values_that_json_cannot_hold_are_refused_by_name(ledger: Ledger) -> None:
    wire = Wire(ledger)
    assert "feature_json.a: nan is not JSON" in wire.answer(1, {**EVENT, "feature_json": {"a": float("nan")}})
    assert "feature_json.a: -inf is not JSON" in wire.answer(2, {**EVENT, "feature_json": {"a": float("-inf")}})
    assert "revenue_impact: inf is not JSON" in wire.answer(3, {**EVENT, "revenue_impact": float("inf")})
    assert "feature_json: the text has a lone surrogate" in wire.answer(4, {**EVENT, "feature_json": {"\udfff": 1}})
    assert "unknown argument" in wire.answer(5, {**EVENT, "\ud800": 1})
    assert "9007199254740991" in wire.answer(6, {**EVENT, "feature_json": {"a": 10**4000}})
    wire.write(
        b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"log_event","arguments":'
        b'{"activity":"cdesk.a","feature_json":{"a":' + b"9" * 5000 + b"}}}}\n"
    )
    assert "inf is not JSON" in wire.receive()["result"]["content"][0]["text"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_whatever_ends_it_under_load_acknowledged_events_are_sealed_within_a_second(
    ledger: Ledger, ending: str
) -> None:
    wire = Wire(ledger, new=True)  # Python's own end takes its time too
    process, number = wire.process, ENDINGS[ending]
    assert process.stdout is not None
    assert process.stdin is not None
    answers: list[bytes] = []
    reader = threading.Thread(target=lambda: answers.extend(process.stdout or []))
    reader.start()
    stop = threading.Event()

    def load() -> None:
        try:
            for count in range(1, 100_000):
                if stop.is_set():
                    return
                wire.call(count, "log_event", {**EVENT, "feature_json": {"n": count}})
        except BrokenPipeError:
            pass

    writer = threading.Thread(target=load)
    writer.start()
    wait_until(lambda: len(answers) > 300, "under load")
    began = time.monotonic()
    if number is None:
        stop.set()
        writer.join()
        began = time.monotonic()
        process.stdin.close()
    else:
        process.send_signal(number)
    code = process.wait(10)
    took = time.monotonic() - began
    stop.set()
    reader.join()
    writer.join()
    assert code == 0, ledger.errors
    assert took < 1.0
    assert "Traceback" not in ledger.errors
    assert all(answer.endswith(b"\n") for answer in answers)
    replies = [json.loads(answer) for answer in answers]
    acked = {reply["result"]["structuredContent"]["event_id"] for reply in replies if not reply["result"]["isError"]}
    assert len(acked) > 300
    assert ledger.spool.active_segments() == []
    queued = [json.loads(line)["activity_id"] for line in ledger.queued()]
    assert acked <= set(queued)
    assert len(queued) == len(set(queued))
    assert list(ledger.spool.servers.iterdir()) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_whatever_ends_it_calls_that_wait_for_a_query_are_answered_at_once(ledger: Ledger, ending: str) -> None:
    runner = RunnerTickets(ledger.spool)
    runner.recover("2026-11-21T04:20:47.123456Z")
    wire = Wire(ledger)
    wire.call(1, "submit_query", {"template": "errors"})
    ticket_id = wire.receive()["result"]["structuredContent"]["ticket_id"]
    waiting = range(2, 52)
    for call in waiting:
        wire.call(call, "get_result", {"ticket_id": ticket_id, "wait_s": 20})
    wire.call(99, "log_event", EVENT)
    assert wire.receive()["id"] == 99, "those who wait hold nobody else up"
    began = time.monotonic()
    number = ENDINGS[ending]
    if number is None:
        assert wire.process.stdin is not None
        wire.process.stdin.close()
    else:
        wire.process.send_signal(number)
    replies = [wire.receive() for _ in waiting]
    assert wire.process.wait(10) == 0, ledger.errors
    assert time.monotonic() - began < 1.0
    assert sorted(reply["id"] for reply in replies) == list(waiting)
    assert {reply["result"]["structuredContent"]["status"] for reply in replies} == {"queued"}
    assert "Traceback" not in ledger.errors
    assert "cancelled" not in ledger.errors
    runner.close()


def test_nothing_but_protocol_is_on_its_output(ledger: Ledger) -> None:
    wire = Wire(ledger)
    wire.write(b"this is no message\n")
    assert wire.receive()["error"]["code"] == -32700
    wire.call(1, "log_event", {"activity": "no"})
    wire.receive()
    assert wire.process.stdin is not None
    wire.process.stdin.close()
    assert wire.process.wait(10) == 0
    assert wire.process.stdout is not None
    assert wire.process.stdout.read() == b""
    assert "no message" in ledger.errors


def test_the_server_loads_no_warehouse_driver(ledger: Ledger) -> None:
    # -X importtime names every module that is imported, until the end and also by threads.
    command = [sys.executable, "-X", "importtime", "-m", "snowledger", "serve", "--no-uploader"]
    handshake = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HANDSHAKE}
    calls = [
        {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        for number, (tool, arguments) in enumerate(
            (("log_event", EVENT), ("submit_query", {"template": "errors"}), ("submit_query", {"template": "x"})), 1
        )
    ]
    done = subprocess.run(
        command,
        env=ledger.environment,
        input="".join(json.dumps(message) + "\n" for message in (handshake, *calls)),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert '"event_id"' in done.stdout
    modules = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert {"snowledger_server", "snowledger_queue", "mcp"} <= modules
    assert not {"duckdb", "_duckdb", "snowflake", "sqlglot", "pyarrow", "snowledger_uploader"} & modules
    assert "prometheus_client" not in modules, "on stdio nobody asks for metrics"


def test_a_spool_that_cannot_be_used_ends_it_at_once_with_a_reason(ledger: Ledger) -> None:
    ledger.home.mkdir(mode=0o755)
    failed = ledger.run("serve", code=3)
    assert "chmod 700" in failed.stderr
    assert failed.stdout == ""


def test_the_segments_of_two_servers_never_mix(ledger: Ledger) -> None:
    wires = [Wire(ledger), Wire(ledger)]
    for number in range(1, 40):
        for wire in wires:
            wire.call(number, "log_event", EVENT)
    for wire in wires:
        for _ in range(1, 40):
            assert not wire.receive()["result"]["isError"]
    writers: dict[str, set[str]] = {}
    segments = [*(found.path for found in ledger.spool.sealed_segments()), *ledger.spool.active_segments()]
    for path in segments:
        name = parse_segment_name(Path(path).name)
        assert name is not None
        sessions = {json.loads(line)["_session_id"] for line in path.read_bytes().splitlines()}
        writers.setdefault(name.writer, set()).update(sessions)
    assert sorted(map(len, writers.values())) == [1, 1]
