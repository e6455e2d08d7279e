"""The kill switch: what it stops, and who may turn it."""

from collections.abc import Iterator

import pytest
from tests.queue_package.context_samples import at
from tests.queue_package.ticket_samples import ask, result

from snowledger_queue import KillSwitch, KillSwitchError, QueueError, RunnerTickets, Spool


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
