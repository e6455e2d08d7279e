"""The kill switch: what it stops, and who may turn it."""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from tests.queue_package.context_samples import at
from tests.queue_package.ticket_samples import ask, result

from snowledger_queue import KillSwitch, KillSwitchError, QueueError, RunnerTickets, Spool, StateError, Tickets


@pytest.fixture
def tickets(spool: Spool) -> Iterator[RunnerTickets]:
    made = RunnerTickets(spool)
    made.recover(at())
    yield made
    made.close()


def test_it_is_off_until_it_is_turned_on(tickets: RunnerTickets) -> None:
    assert tickets.kill_switch() == KillSwitch(on=False, reason="", since=None, by=None)
    assert not tickets.set_kill_switch(on=False, reason="", by="operator", now=at())
    assert tickets.kill_switch() == KillSwitch()
    assert tickets.set_kill_switch(on=True, reason="runaway", by="operator", now=at(1))
    assert tickets.kill_switch() == KillSwitch(on=True, reason="runaway", since=at(1), by="operator")
    assert tickets.set_kill_switch(on=False, reason="found it", by="operator", now=at(2))
    assert tickets.kill_switch() == KillSwitch(on=False, reason="found it", since=at(2), by="operator")


def test_while_it_is_on_queries_are_refused_with_the_reason(tickets: RunnerTickets) -> None:
    fresh, _ = ask(tickets, 1)
    tickets.claim(at())
    tickets.succeed(fresh.ticket_id, result(), at())
    tickets.set_kill_switch(on=True, reason="credits", by="operator", now=at(1))
    for number in (1, 2):
        with pytest.raises(KillSwitchError, match="credits") as caught:
            ask(tickets, number, max_age_s=3_600)
        assert caught.value.reason == "credits"
        assert not caught.value.transient
        assert isinstance(caught.value, QueueError)
    assert len(tickets.list(None, 10)) == 1
    tickets.set_kill_switch(on=False, reason="", by="operator", now=at(2))
    assert not ask(tickets, 2)[1]


def test_turning_it_on_ends_what_is_queued_and_stops_what_runs(tickets: RunnerTickets) -> None:
    running, _ = ask(tickets, 1, now=at(0))
    unwanted, _ = ask(tickets, 2, now=at(1))
    queued, _ = ask(tickets, 3, customer="other", now=at(2))
    done, _ = ask(tickets, 4, now=at(-1))
    for _ in range(3):
        tickets.claim(at(3))
    tickets.succeed(done.ticket_id, result(), at(3))
    tickets.cancel(unwanted.ticket_id, "acme", at(4))
    tickets.set_kill_switch(on=True, reason="runaway", by="operator", now=at(5))
    assert tickets.claim(at(6)) is None
    assert tickets.cancel_requests() == {running.ticket_id, unwanted.ticket_id}
    for ticket in (running, unwanted):
        tickets.cancelled(ticket.ticket_id, at(6))
    found = {ticket.ticket_id: (ticket.status, ticket.finished_at, ticket.error) for ticket in tickets.list(None, 10)}
    why = "the kill switch was turned on: runaway"
    assert found == {
        running.ticket_id: ("cancelled", at(6), why),
        unwanted.ticket_id: ("cancelled", at(6), None),
        queued.ticket_id: ("cancelled", at(5), why),
        done.ticket_id: ("succeeded", at(3), None),
    }


def test_a_query_that_ended_all_the_same_has_succeeded_without_an_error(tickets: RunnerTickets) -> None:
    asked, _ = ask(tickets)
    tickets.claim(at())
    tickets.set_kill_switch(on=True, reason="runaway", by="operator", now=at(1))
    assert tickets.succeed(asked.ticket_id, result(), at(2))
    [ticket] = tickets.list(None, 10)
    assert (ticket.status, ticket.error) == ("succeeded", None)


def test_what_a_dead_uploader_was_running_does_not_come_back_while_it_is_on(tickets: RunnerTickets) -> None:
    ask(tickets)
    tickets.claim(at())
    tickets.set_kill_switch(on=True, reason="runaway", by="operator", now=at(1))
    tickets.recover(at(2))
    assert tickets.claim(at(3)) is None
    [ticket] = tickets.list(None, 10)
    assert (ticket.status, ticket.error) == ("cancelled", "the kill switch was turned on: runaway")


def test_the_operator_has_the_last_word(tickets: RunnerTickets) -> None:
    assert tickets.set_kill_switch(on=True, reason="12 credits an hour", by="budget", now=at(0))
    assert not tickets.set_kill_switch(on=True, reason="13 credits an hour", by="budget", now=at(1))
    assert tickets.kill_switch() == KillSwitch(on=True, reason="13 credits an hour", since=at(0), by="budget")
    assert not tickets.set_kill_switch(on=True, reason="maintenance", by="operator", now=at(2))
    maintenance = KillSwitch(on=True, reason="maintenance", since=at(0), by="operator")
    assert tickets.kill_switch() == maintenance
    for on in (True, False):
        assert not tickets.set_kill_switch(on=on, reason="budget", by="budget", now=at(3))
        assert tickets.kill_switch() == maintenance
    assert tickets.set_kill_switch(on=False, reason="", by="operator", now=at(4))
    assert tickets.set_kill_switch(on=True, reason="14 credits an hour", by="budget", now=at(5))
    assert tickets.set_kill_switch(on=False, reason="an hour passed", by="budget", now=at(6))


def lost(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all\n" * 4096)


@pytest.mark.parametrize("harm", [lost, garbage])
def test_it_outlives_the_state(harm: Callable[[Path], None], tickets: RunnerTickets, spool: Spool) -> None:
    tickets.set_kill_switch(on=True, reason="runaway", by="operator", now=at(1))
    tickets.close()
    harm(spool.state)
    with closing(Tickets(spool)) as server, pytest.raises(KillSwitchError, match="runaway"):
        ask(server)
    with closing(RunnerTickets(spool)) as again:
        again.recover(at(2))
        assert again.kill_switch() == KillSwitch(on=True, reason="runaway", since=at(1), by="operator")
        with pytest.raises(KillSwitchError, match="runaway"):
            ask(again)


def test_it_can_be_turned_where_no_uploader_ever_ran(spool: Spool) -> None:
    with closing(Tickets(spool)) as tickets:
        assert tickets.set_kill_switch(on=True, reason="runaway", by="operator", now=at())
        with pytest.raises(KillSwitchError, match="runaway"):
            ask(tickets)
        assert tickets.set_kill_switch(on=False, reason="", by="operator", now=at())
        with pytest.raises(StateError, match="no uploader has made it yet"):
            ask(tickets)
    assert not spool.state.exists()


GOOD = orjson.dumps(KillSwitch(False, "", at(), "operator")._asdict())
BAD = [
    *(b"", b"\xff", b"null", b"[]", b"{}", b'{"on":false}', GOOD[:-1], GOOD[1:], GOOD + b"x", b" " * 2**17 + GOOD),
    *(GOOD.replace(b"false", wrong) for wrong in (b"0", b"null", b'"false"', b"{}")),
    *(GOOD.replace(b'"operator"', wrong) for wrong in (b'"somebody"', b"[]", b"1")),
    *(GOOD.replace(b'""', wrong) for wrong in (b"null", b"1")),
    *(GOOD.replace(at().encode(), wrong) for wrong in (b"yesterday", b"")),
    GOOD.replace(b"{", b'{"off":true,'),
]


@pytest.mark.parametrize("content", BAD)
def test_damaged_it_is_on(content: bytes, tickets: RunnerTickets, spool: Spool) -> None:
    spool.kill_switch.write_bytes(GOOD)
    assert not tickets.kill_switch().on
    spool.kill_switch.write_bytes(content)
    switch = tickets.kill_switch()
    assert (switch.on, switch.since, switch.by) == (True, None, None)
    assert f"({spool.kill_switch.name} is damaged)" in switch.reason, "it reaches clients"
    with pytest.raises(KillSwitchError, match=r"is damaged.*turn it on or off to mend that"):
        ask(tickets)
    assert not tickets.set_kill_switch(on=True, reason="sure", by="operator", now=at(1))
    assert tickets.kill_switch() == KillSwitch(on=True, reason="sure", since=at(1), by="operator")
    spool.kill_switch.write_bytes(content)
    assert tickets.set_kill_switch(on=False, reason="", by="operator", now=at(1))
    assert not ask(tickets)[1]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere")])
def test_what_is_no_plain_file_turns_it_on(make: Callable[[Path], None], tickets: RunnerTickets, spool: Spool) -> None:
    make(spool.kill_switch)
    assert tickets.kill_switch().on
    with pytest.raises(KillSwitchError, match=r"kill_switch\.json"):
        ask(tickets)


def test_that_it_cannot_be_turned_is_said(tickets: RunnerTickets, spool: Spool) -> None:
    spool.kill_switch.mkdir()
    with pytest.raises(StateError, match=r"kill_switch\.json cannot be written: Is a directory") as caught:
        tickets.set_kill_switch(on=False, reason="", by="operator", now=at())
    assert caught.value.transient
    assert [path.name for path in spool.home.iterdir() if path.name.endswith(".open")] == []


def test_it_is_private(tickets: RunnerTickets, spool: Spool) -> None:
    before = os.umask(0)
    try:
        tickets.set_kill_switch(on=True, reason="", by="operator", now=at())
    finally:
        os.umask(before)
    assert stat.S_IMODE(spool.kill_switch.stat().st_mode) == 0o600


def test_whoever_looks_at_marks_learns_that_it_was_turned(tickets: RunnerTickets, spool: Spool) -> None:
    with closing(Tickets(spool)) as other:
        seen = [other.mark()]
        for on in (True, False, True):
            tickets.set_kill_switch(on=on, reason="", by="operator", now=at())
            assert other.mark() not in seen
            seen.append(other.mark())
            assert other.mark() == seen[-1]


def test_what_a_state_of_before_holds_is_cancelled_as_well(tickets: RunnerTickets, spool: Spool) -> None:
    asked, _ = ask(tickets)
    kept = spool.state.rename(spool.home / "kept")
    with closing(Tickets(spool)) as elsewhere:
        elsewhere.set_kill_switch(on=True, reason="runaway", by="operator", now=at(1))
    kept.rename(spool.state)
    tickets.cancel_all(at(2))
    [ticket] = tickets.list(None, 10)
    assert (ticket.ticket_id, ticket.status) == (asked.ticket_id, "cancelled")
    assert ticket.error == "the kill switch was turned on: runaway"
    mark = tickets.mark()
    tickets.cancel_all(at(3))
    assert tickets.mark() == mark, "nothing is written when there is nothing to cancel"


def test_tickets_that_this_uploader_runs_are_spared_by_a_recovery(tickets: RunnerTickets) -> None:
    own, nobodys = ask(tickets, 1)[0].ticket_id, ask(tickets, 2)[0].ticket_id
    for _ in range(2):
        tickets.claim(at())
    assert tickets.recover(at(1), {own}) == 1
    assert {found.ticket_id: found.status for found in tickets.list(None, 10)} == {own: "running", nobodys: "queued"}
    mark = tickets.mark()
    assert tickets.recover(at(1), {own}) == 0
    assert tickets.mark() == mark, "nothing is written when there is nothing to do"
