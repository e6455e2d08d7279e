"""Servers and uploaders killed at random points, again and again: nothing acknowledged is lost, nothing is twice.

The oracle: what was acknowledged was delivered or dead-lettered; what was delivered was submitted; payloads are
equal; each id is there once; a fresh event flows. SIGKILL proves nothing about power loss.
SNOWLEDGER_TORTURE_ROUNDS asks for so many rounds instead of some 10 s, SNOWLEDGER_TORTURE_SEED repeats a run.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import Any

import pytest
from tests.acceptance.ledger import Ledger, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")

ROUNDS = int(os.environ.get("SNOWLEDGER_TORTURE_ROUNDS", "0"))
BUDGET_S = 10.0
MAX_IN_FLIGHT = 32
HANDSHAKE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


class Submitted:
    """What clients sent and what they were told, over all rounds."""

    def __init__(self) -> None:
        self.calls: dict[str, dict[str, Any]] = {}
        """Features by their own mark: a call that was not acknowledged has no id."""
        self.acked: dict[str, str] = {}
        """Mark by event id."""


class Victim:
    """A server and a client that calls it without pause until either dies."""

    def __init__(self, ledger: Ledger, submitted: Submitted, name: str, seed: int) -> None:
        self.process = ledger.start("serve", "--no-uploader")
        self._submitted = submitted
        self._name = name
        self._chance = random.Random(seed)
        self._free = threading.Semaphore(MAX_IN_FLIGHT)
        self._stop = threading.Event()
        self._marks: dict[int, str] = {}
        self.acked = 0
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._write)]
        for thread in self._threads:
            thread.start()

    def end(self, *, kill: bool) -> None:
        if kill:
            self.process.kill()
        self._stop.set()
        self._threads[1].join()
        if not kill and self.process.stdin is not None:
            self.process.stdin.close()
        assert self.process.wait(20) is not None
        self._threads[0].join()
        assert kill or self.process.returncode == 0

    def _write(self) -> None:
        try:
            self._send({"id": 0, "method": "initialize", "params": HANDSHAKE})
            self._send({"method": "notifications/initialized"})
            number = 0
            while not self._stop.is_set():
                if not self._free.acquire(timeout=0.1):
                    continue
                number += 1
                mark = f"{self._name}/{number}"
                features = {"mark": mark, "filler": "é" * self._chance.choice([0, 10, 10, 10, 2000, 60_000])}
                arguments: dict[str, Any] = {"activity": "cdesk.tool_called", "feature_json": features}
                if number % 7 == 0:
                    arguments["idempotency_key"] = mark
                self._submitted.calls[mark] = features
                self._marks[number] = mark
                call = {"name": "log_event", "arguments": arguments}
                self._send({"id": number, "method": "tools/call", "params": call})
        except OSError:
            pass  # the server was killed

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
            if message.get("id"):
                self._free.release()
                assert not message["result"]["isError"], line
                self._submitted.acked[message["result"]["structuredContent"]["event_id"]] = self._marks[message["id"]]
                self.acked += 1


def test_whatever_is_killed_every_acknowledged_event_is_in_the_warehouse_once(ledger: Ledger) -> None:
    seed = int(os.environ.get("SNOWLEDGER_TORTURE_SEED", time.time_ns() % 10**9))
    print(f"SNOWLEDGER_TORTURE_SEED={seed}")  # noqa: T201 - pytest shows it with a failure
    chance = random.Random(seed)
    submitted = Submitted()
    ledger.spool  # noqa: B018 - makes the folder
    deadline = time.monotonic() + BUDGET_S
    rounds = 0
    while rounds < ROUNDS or (not ROUNDS and time.monotonic() < deadline):
        rounds += 1
        _round(ledger, submitted, chance, rounds)

    done = ledger.run("upload", "--once")
    assert "Traceback" not in ledger.errors
    assert ledger.queued() == []
    assert ledger.spool.active_segments() == []
    assert ledger.dead_letters() == [], done.stdout
    _check(ledger, submitted)
    assert len(submitted.acked) > 100
    assert rounds > 1

    fresh = Victim(ledger, submitted, "fresh", seed)
    wait_until(lambda: fresh.acked, "a fresh event is acknowledged")
    fresh.end(kill=False)
    ledger.run("upload", "--once")
    _check(ledger, submitted)


def _round(ledger: Ledger, submitted: Submitted, chance: random.Random, number: int) -> None:
    """One or two servers under load and an uploader beside them; each is killed or ended in good order."""
    uploaders = [ledger.start("upload")]
    victims = [
        Victim(ledger, submitted, f"{number}.{index}", chance.randrange(10**9)) for index in range(chance.randint(1, 2))
    ]
    wait_until(lambda: all(victim.acked for victim in victims), "the servers answer")
    deaths: list[Any] = [*victims, *uploaders]
    chance.shuffle(deaths)
    for victim in deaths:
        # Not a wait for anything: the point of the kill is what is random here.
        time.sleep(chance.uniform(0, 0.6))
        if isinstance(victim, Victim):
            victim.end(kill=chance.random() < 0.8)
        else:
            _end_uploader(victim, kill=chance.random() < 0.8)


def _end_uploader(uploader: subprocess.Popen[bytes], *, kill: bool) -> None:
    if kill:
        uploader.kill()
    else:
        uploader.terminate()
    code = uploader.wait(20)
    # A SIGTERM before its handler is there ends it by the signal: then it has not touched anything yet.
    assert kill or code in {0, -15}


def _check(ledger: Ledger, submitted: Submitted) -> None:
    delivered = ledger.delivered()
    assert [name for name, count in Counter(name for name, _ in delivered).items() if count > 1] == []
    events = dict(delivered)
    assert set(submitted.acked) <= set(events)
    for name, event in events.items():
        features = event["feature_json"]
        assert features == submitted.calls[features["mark"]]
        assert event["activity_id"] == name
    assert all(events[name]["feature_json"]["mark"] == mark for name, mark in submitted.acked.items())
    marks = Counter(event["feature_json"]["mark"] for event in events.values())
    assert set(marks.values()) <= {1}
