"""Tickets of many processes at once, and of processes that are killed."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.queue_package.context_samples import at
from tests.queue_package.ticket_samples import ask

from snowledger_queue import RunnerTickets, Spool

Start = Callable[..., "subprocess.Popen[str]"]
SCRIPT = Path(__file__).with_name("ticket_process_main.py")


@pytest.fixture
def begin() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-W", "error", SCRIPT, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def runner(spool: Spool) -> Iterator[RunnerTickets]:
    made = RunnerTickets(spool)
    made.recover(at())
    yield made
    made.close()


def test_what_many_submit_at_once_is_all_there_in_order(begin: Start, spool: Spool, runner: RunnerTickets) -> None:
    processes = [begin("submit", spool.home, name, "5", "10") for name in "abcd"]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [line.split() for process in processes for line in process.communicate(timeout=60)[0].splitlines()]
    assert all(process.returncode == 0 for process in processes)
    assert len(said) == len({ticket_id for ticket_id, *_ in said}) == 200
    listed = {ticket.ticket_id: ticket for ticket in runner.list(None, 1_000)}
    assert {(found.ticket_id, found.customer, found.submitted_at) for found in listed.values()} == {
        (ticket_id, customer, at(int(number))) for ticket_id, customer, number in said
    }
    assert sorted(ticket.position or 0 for ticket in listed.values()) == list(range(200))
    claimed = []
    while (ticket := runner.claim(at(100))) is not None:
        claimed.append(ticket)
    assert [listed[ticket.ticket_id].position for ticket in claimed] == list(range(200))
    times = [ticket.submitted_at for ticket in claimed]
    assert times == sorted(times)


def test_a_query_whose_uploader_is_killed_runs_once_more_and_then_fails(
    begin: Start, spool: Spool, runner: RunnerTickets
) -> None:
    asked, _ = ask(runner)
    for attempt in (1, 2):
        process = begin("claim", spool.home)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == asked.ticket_id
        process.kill()
        process.wait()
        found = runner.get(asked.ticket_id, "acme")
        assert found is not None
        assert (found.status, found.attempts) == ("running", attempt)
    assert runner.recover(at(2)) == 1
    found = runner.get(asked.ticket_id, "acme")
    assert found is not None
    assert (found.status, found.error) == ("failed", "the uploader was stopped twice while it ran")
    assert runner.claim(at(3)) is None
