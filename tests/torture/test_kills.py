"""Servers and uploaders killed at random moments, again and again: nothing acknowledged is lost, nothing is twice.

Two servers under load and an uploader, each started again as soon as it is dead. SIGKILL proves nothing about power
loss. `make torture` asks for a thousand kills; SNOWLEDGER_TORTURE_SEED repeats the choices of a run.
"""

import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.acceptance.ledger import Ledger
from tests.command_server import Command
from tests.torture.load import ROOMY, Caller, Told, close_pipes, drain, fresh_event_arrives
from tests.torture.size import size, time_limit_s, torture_seed

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX"),
    pytest.mark.timeout(time_limit_s("SNOWLEDGER_TORTURE_KILLS", 3)),
]

KILLS = size("SNOWLEDGER_TORTURE_KILLS", 8)
EARLY_S = 0.6
"""A server's first answer comes about then: kills from here back hit it while it starts."""

LIFE_S = 0.8
UPLOADER_LIFE_S = 2.5
"""Some batches and queries long."""

PAUSES_S = [0.0, 0.005, 0.02]
"""Between two calls of a client; with none it sends what the server can take."""


class Kills:
    """Counts down; the life that takes the last one ends the others."""

    def __init__(self, wanted: int) -> None:
        self.early = self.amid = self.orderly = 0
        self._left = wanted
        self._lock = threading.Lock()
        self.over = threading.Event()

    def orders(self, chance: random.Random) -> bool:
        """Whether this life ends by a kill; one of eight ends in good order."""
        with self._lock:
            if chance.random() < 1 / 8:
                self.orderly += 1
                return False
            self._left -= 1
            if self._left <= 0:
                self.over.set()
            return True


def test_whatever_is_killed_every_acknowledged_event_is_in_the_warehouse_once(ledger: Ledger) -> None:
    seed = torture_seed()
    told = Told()
    kills = Kills(KILLS)
    ledger.spool  # noqa: B018 - makes the folder
    begun = time.monotonic()
    lives: list[Callable[[], None]] = [
        lambda: _servers(ledger, told, kills, "a", seed),
        lambda: _servers(ledger, told, kills, "b", seed),
        lambda: _uploaders(ledger, kills, seed),
    ]
    with ThreadPoolExecutor() as threads:
        for life in [threads.submit(_until_one_fails, life, kills) for life in lives]:
            life.result()
    drain(ledger)
    print(  # noqa: T201 - `make torture` shows it
        f"{KILLS:,} kills in {time.monotonic() - begun:.0f} s ({kills.early} of servers that had answered nothing, "
        f"{kills.orderly} orderly ends besides): {len(told.sent):,} events sent, {len(told.acked):,} acknowledged, "
        f"{len(told.tickets):,} tickets"
    )
    assert "Traceback" not in ledger.errors
    assert ledger.queued() == []
    assert ledger.spool.active_segments() == []
    assert ledger.dead_letters() == []
    assert all(refused["retryable"] for refused in told.refused), told.refused
    assert len(told.acked) > 5 * KILLS
    told.check(ledger)
    told.check_tickets(ledger)
    fresh_event_arrives(ledger, told, "fresh")
    told.check(ledger)


def _until_one_fails(life: Callable[[], None], kills: Kills) -> None:
    try:
        life()
    finally:
        kills.over.set()


def _servers(ledger: Ledger, told: Told, kills: Kills, name: str, seed: int) -> None:
    chance = random.Random(f"{seed}/{name}")
    number = 0
    while not kills.over.is_set():
        number += 1
        server = ledger.start("serve", "--no-uploader", **ROOMY)
        caller = Caller(server, told, f"{name}{number}", chance, chance.choice(PAUSES_S))
        kill = kills.orders(chance)
        early = kill and chance.random() < 1 / 4
        # Not a wait for anything: the moment of the kill is what is random here.
        time.sleep(chance.uniform(0, EARLY_S) if early else 0)
        while not early and not caller.acked and server.poll() is None:
            time.sleep(0.01)
        time.sleep(0 if early else chance.uniform(0, LIFE_S))
        caller.end(kill=kill)
        kills.early += kill and not caller.acked


def _uploaders(ledger: Ledger, kills: Kills, seed: int) -> None:
    chance = random.Random(f"{seed}/uploader")
    while not kills.over.is_set():
        uploader = ledger.start("upload", **ROOMY)
        kill = kills.orders(chance)
        time.sleep(chance.uniform(0, UPLOADER_LIFE_S))
        _end_uploader(uploader, kill=kill)


def _end_uploader(uploader: Command, *, kill: bool) -> None:
    if kill:
        uploader.kill()
    else:
        uploader.terminate()
    code = uploader.wait(20)
    close_pipes(uploader)
    # A SIGTERM before its handler is there ends it by the signal: then it has not touched anything yet.
    assert kill or code in {0, -15}
