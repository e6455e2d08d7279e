"""Load that goes on while processes die and disks fail, and what its clients were told."""

import contextlib
import itertools
import json
import random
import threading
from collections import Counter, deque
from typing import Any

from tests.acceptance.ledger import Ledger, wait_until
from tests.command_server import Command

from snowledger_queue import Tickets

ACTIVITY = "cdesk.tool_called"
MAX_IN_FLIGHT = 32
FILLERS = [""] + ["é" * 10] * 40 + ["é" * 2000] * 8 + ["é" * 60_000]
QUERIES = 20
"""One call of so many asks the warehouse something."""

KEYED = 7
"""One event of so many has an idempotency key."""

DRAIN_S = 180
"""A hundred queries may be waiting, and thousands of events."""

FINAL = {"succeeded", "failed", "cancelled"}
HANDSHAKE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
ROOMY = {
    "MAX_QUEUE_SIZE": "10GiB",
    "BACKPRESSURE_THRESHOLD": "3600000",
    "SNOWLEDGER_BACKPRESSURE_EVENTS": "1000000000",
    "SNOWLEDGER_MIN_FREE_DISK": "0",
}
"""Limits that no load here reaches: what is acknowledged is stored, all of it."""


class Told:
    """What clients asked for and what they were told, over the lives of all servers."""

    def __init__(self) -> None:
        self.sent: dict[str, dict[str, Any]] = {}
        """Features by their own mark: a call that was not acknowledged has no id."""
        self.acked: dict[str, str] = {}
        """Mark by event id."""
        self.tickets: list[str] = []
        self.refused: list[dict[str, Any]] = []
        """What the errors said."""
        self.open_keys: deque[str] = deque()
        """Marks that are idempotency keys too and whose calls got no answer: the next client tries them again."""

    def so_far(self) -> tuple[int, int]:
        """How much has been acknowledged: for ``forget_after``."""
        return len(self.acked), len(self.tickets)

    def forget_after(self, moment: tuple[int, int]) -> None:
        """What was acknowledged after that moment may be there or not: nobody was left to hear of it."""
        self.acked = dict(itertools.islice(self.acked.items(), moment[0]))
        del self.tickets[moment[1] :]

    def check(self, ledger: Ledger) -> None:
        """The oracle: acknowledged are delivered or dead-lettered, delivered were sent, payloads equal, each once."""
        # The uploader logs what became of the queries, under the same customer.
        delivered = [found for found in ledger.delivered() if found[1]["activity"] == ACTIVITY]
        events = dict(delivered)
        twice = [name for name, count in Counter(name for name, _ in delivered).items() if count > 1]
        assert not twice, twice
        lost = {name: mark for name, mark in self.acked.items() if name not in events}
        assert not lost, f"of {len(self.acked)} these are lost: {lost}"
        for name, event in events.items():
            assert event["activity_id"] == name
            assert event["feature_json"] == self.sent[event["feature_json"]["mark"]]
        assert all(events[name]["feature_json"]["mark"] == mark for name, mark in self.acked.items())
        # A call that was tried again is one event too.
        marks = Counter(event["feature_json"]["mark"] for event in events.values())
        twice = [mark for mark, count in marks.items() if count > 1]
        assert not twice, twice

    def check_tickets(self, ledger: Ledger) -> None:
        """Every query that got a ticket has ended."""
        tickets = Tickets(ledger.spool)
        try:
            found = {ticket.ticket_id: ticket.status for ticket in tickets.list(None, 10**6)}
        finally:
            tickets.close()
        assert set(self.tickets) <= found.keys(), set(self.tickets) - found.keys()
        assert set(found.values()) <= FINAL, found


class Caller:
    """A server and a client that calls it without pause until either ends."""

    def __init__(self, process: Command, told: Told, name: str, chance: random.Random, pause_s: float = 0.0) -> None:
        self.process = process
        self.acked = 0
        self._told = told
        self._name = name
        self._chance = chance
        self._pause_s = pause_s
        self._free = threading.Semaphore(MAX_IN_FLIGHT)
        self._stop = threading.Event()
        self.calling = threading.Event()
        """Cleared, it holds the calls back until it is set."""
        self.calling.set()
        self._asked: dict[int, str | None] = {}
        """By the number of the call: the mark of an event, None for a query."""
        self._keys: set[str] = set()
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._write)]
        for thread in self._threads:
            thread.start()

    def end(self, *, kill: bool) -> None:
        """By SIGKILL, or in good order."""
        if kill:
            self.process.kill()
        self._stop.set()
        self._threads[1].join()
        if not kill and self.process.stdin is not None:
            self.process.stdin.close()
        assert self.process.wait(20) is not None
        self._threads[0].join()
        close_pipes(self.process)
        self._told.open_keys.extend(self._keys)
        assert kill or self.process.returncode == 0

    def stop(self) -> None:
        """Send no more, and wait until all is answered."""
        self._stop.set()
        self._threads[1].join()
        wait_until(lambda: not self._asked, "all calls are answered")

    def _write(self) -> None:
        try:
            self._send({"id": 0, "method": "initialize", "params": HANDSHAKE})
            self._send({"method": "notifications/initialized"})
            number = 0
            while not self._stop.is_set():
                if not self.calling.wait(0.1) or not self._free.acquire(timeout=0.1):
                    continue
                number += 1
                call = self._query(number) if number % QUERIES == 0 else self._event(number)
                self._send({"id": number, "method": "tools/call", "params": call})
                if self._pause_s:
                    self._stop.wait(self._pause_s)
        except (OSError, ValueError):
            pass  # the server was killed, or its pipe closed by a test that failed

    def _query(self, number: int) -> dict[str, Any]:
        self._asked[number] = None
        params = {"since": self._chance.randint(60, 86_400)}
        return {"name": "submit_query", "arguments": {"template": "activity_counts", "params": params}}

    def _event(self, number: int) -> dict[str, Any]:
        mark = f"{self._name}/{number}"
        keyed = number % KEYED == 0
        if keyed and self._told.open_keys:
            mark = self._told.open_keys.popleft()
        features = self._told.sent.setdefault(mark, {"mark": mark, "filler": self._chance.choice(FILLERS)})
        arguments: dict[str, Any] = {"activity": ACTIVITY, "feature_json": features}
        if keyed:
            arguments["idempotency_key"] = mark
            self._keys.add(mark)
        self._asked[number] = mark
        return {"name": "log_event", "arguments": arguments}

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        data = memoryview(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        while data:
            data = data[self.process.stdin.write(data) :]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith(b"\n"):
                break  # torn by the kill: not an answer
            message = json.loads(line)
            number = message.get("id")
            if not number:
                continue
            self._free.release()
            mark = self._asked.pop(number)
            if "error" in message:
                continue  # cancelled at the server's end: whether it was stored is open, as without an answer
            content = message["result"]["structuredContent"]
            if message["result"]["isError"]:
                self._told.refused.append(content)
            elif mark is None:
                self._told.tickets.append(content["ticket_id"])
            else:
                assert not content.get("sampled_out"), content
                self._told.acked[content["event_id"]] = mark
                self._keys.discard(mark)
                self.acked += 1


def close_pipes(process: Command) -> None:
    """Of a process that has ended: a thousand of them would be more than may be open."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was not sent yet
                pipe.close()


def drain(ledger: Ledger) -> None:
    """Load all that is left, and run the queries that wait."""
    uploader = ledger.start("upload", "--once", **ROOMY)
    code = uploader.wait(DRAIN_S)
    close_pipes(uploader)
    assert code == 0, ledger.errors[-2000:]


def fresh_event_arrives(ledger: Ledger, told: Told, name: str) -> None:
    """Log an event through a new server and load it."""
    caller = Caller(ledger.start("serve", "--no-uploader", **ROOMY), told, name, random.Random(name), pause_s=0.01)
    wait_until(lambda: caller.acked, "a fresh event is acknowledged")
    caller.stop()
    caller.end(kill=False)
    drain(ledger)
