"""The life of a ticket, and who may see it."""

import string
from collections.abc import Iterator

import pytest
from tests.queue_package.context_samples import at
from tests.queue_package.ticket_samples import ask, hash_of, result

from snowledger_queue import (
    MAX_OPEN_TICKETS,
    QueryResult,
    QueueError,
    RunnerTickets,
    Spool,
    Tickets,
    TooManyTicketsError,
    new_query_tag,
)


@pytest.fixture
def runner(spool: Spool) -> Iterator[RunnerTickets]:
    made = RunnerTickets(spool)
    made.recover(at())
    yield made
    made.close()


@pytest.fixture
def tickets(spool: Spool, runner: RunnerTickets) -> Iterator[Tickets]:
    """A server's, beside the runner."""
    del runner
    made = Tickets(spool)
    yield made
    made.close()


def test_a_ticket_is_queued_runs_and_succeeds(tickets: Tickets, runner: RunnerTickets) -> None:
    query_tag = new_query_tag()
    queued, reused = tickets.submit(
        customer="acme",
        customers=["zeta", "acme", "zeta"],
        template="funnel",
        params='{"since":60}',
        query_hash=hash_of(1),
        query_tag=query_tag,
        byte_cap=1_000,
        max_age_s=60,
        now=at(0),
    )
    assert not reused
    assert len(queued.ticket_id) == 32
    assert set(queued.ticket_id) <= set(string.hexdigits.lower())
    assert queued._asdict() == {
        "ticket_id": queued.ticket_id,
        "customer": "acme",
        "customers": ("acme", "zeta"),
        "template": "funnel",
        "params": '{"since":60}',
        "query_hash": hash_of(1),
        "query_tag": query_tag,
        "status": "queued",
        "submitted_at": at(0),
        "started_at": None,
        "finished_at": None,
        "byte_cap": 1_000,
        "attempts": 0,
        "cancel_requested": False,
        "position": 0,
        "rows_so_far": 0,
        "columns": None,
        "sample": None,
        "row_count": None,
        "bytes": None,
        "truncated": False,
        "error": None,
        "artifact": False,
    }
    assert tickets.get(queued.ticket_id, "acme", {"zeta"}) == queued
    running = queued._replace(status="running", started_at=at(1), attempts=1, position=None)
    assert runner.claim(at(1)) == running
    assert runner.claim(at(1)) is None
    runner.progress(queued.ticket_id, 7)
    assert tickets.get(queued.ticket_id, "acme", {"zeta"}) == running._replace(rows_so_far=7)
    made = QueryResult('[{"name":"n","type":"integer"}]', "[[1]]", 20, 4_096, truncated=True, artifact=True)
    assert runner.succeed(queued.ticket_id, made, at(2))
    assert tickets.get(queued.ticket_id, "acme", {"zeta"}) == running._replace(
        status="succeeded", finished_at=at(2), rows_so_far=20, **made._asdict()
    )


def test_a_query_that_fails_says_why(tickets: Tickets, runner: RunnerTickets) -> None:
    asked, _ = ask(tickets)
    runner.claim(at())
    assert runner.fail(asked.ticket_id, "no such column", at(1))
    failed = tickets.get(asked.ticket_id, "acme")
    assert failed is not None
    assert (failed.status, failed.error, failed.finished_at) == ("failed", "no such column", at(1))
    assert not failed.artifact


def test_an_unknown_and_a_foreign_ticket_are_the_same(tickets: Tickets, runner: RunnerTickets) -> None:
    for status in ("queued", "running", "succeeded"):
        asked, _ = ask(tickets, max_age_s=0)
        if status != "queued":
            runner.claim(at())
        if status == "succeeded":
            runner.succeed(asked.ticket_id, result(), at())
        before = tickets.get(asked.ticket_id, "acme")
        for ticket_id, customer in ((asked.ticket_id, "other"), ("0" * 32, "acme"), ("%", "acme"), ("", "")):
            assert tickets.get(ticket_id, customer) is None
            assert tickets.cancel(ticket_id, customer, at()) is None
        assert tickets.get(asked.ticket_id, "acme") == before, "it was touched"
        assert tickets.list("other", 10) == []
        tickets.cancel(asked.ticket_id, "acme", at())
        runner.cancelled(asked.ticket_id, at())


def test_a_ticket_over_several_customers_is_for_who_may_read_them_all(tickets: Tickets, runner: RunnerTickets) -> None:
    asked, _ = ask(tickets, customers=["acme", "beta", "zeta"])
    runner.claim(at())
    runner.succeed(asked.ticket_id, result(), at())
    asked, _ = ask(tickets, customers=["acme", "beta", "zeta"])
    for customer, allowed in (("acme", ()), ("acme", {"beta"}), ("acme", {"acme", "zeta"}), ("beta", {"acme", "zeta"})):
        assert tickets.get(asked.ticket_id, customer, allowed) is None
        assert tickets.cancel(asked.ticket_id, customer, at(), allowed) is None
        assert not tickets.finished(customer, hash_of(0), allowed)
    for allowed in ({"beta", "zeta"}, {"acme", "beta", "gama", "zeta"}):
        assert tickets.get(asked.ticket_id, "acme", allowed) == asked
        assert tickets.finished("acme", hash_of(0), allowed)
    cancelled = tickets.cancel(asked.ticket_id, "acme", at(1), ["beta", "zeta"])
    assert cancelled is not None
    assert cancelled.status == "cancelled"
    ask(tickets, max_age_s=0)
    assert not tickets.finished("acme", hash_of(0)), "what is queued has found out nothing"


def test_the_operator_finds_out_whose_a_ticket_is(tickets: Tickets) -> None:
    asked, _ = ask(tickets, customer="other")
    assert tickets.of_anybody(asked.ticket_id) == asked
    assert tickets.of_anybody("0" * 32) is None


def test_a_queued_ticket_is_cancelled_at_once(tickets: Tickets, runner: RunnerTickets) -> None:
    asked, _ = ask(tickets)
    cancelled = tickets.cancel(asked.ticket_id, "acme", at(1))
    assert cancelled is not None
    assert (cancelled.status, cancelled.finished_at, cancelled.error) == ("cancelled", at(1), None)
    assert runner.claim(at(2)) is None
    assert tickets.cancel(asked.ticket_id, "acme", at(3)) == cancelled


def test_a_running_ticket_is_cancelled_by_the_runner(tickets: Tickets, runner: RunnerTickets) -> None:
    asked, _ = ask(tickets, 1)
    other, _ = ask(tickets, 2)
    assert runner.claim(at())
    assert runner.claim(at())
    running = tickets.cancel(asked.ticket_id, "acme", at(1))
    assert running is not None
    assert (running.status, running.cancel_requested, running.finished_at) == ("running", True, None)
    assert runner.cancel_requests() == {asked.ticket_id}
    assert runner.cancelled(asked.ticket_id, at(2))
    assert runner.cancel_requests() == set()
    cancelled = tickets.get(asked.ticket_id, "acme")
    assert cancelled == running._replace(status="cancelled", finished_at=at(2))
    untouched = tickets.get(other.ticket_id, "acme")
    assert untouched is not None
    assert (untouched.status, untouched.cancel_requested) == ("running", False)


def test_a_ticket_that_has_ended_is_not_overwritten(tickets: Tickets, runner: RunnerTickets) -> None:
    queued, _ = ask(tickets, 1, now=at(9))
    ended, _ = ask(tickets, 2, now=at(1))
    runner.claim(at())
    runner.cancelled(ended.ticket_id, at(2))
    for ticket in (queued, ended):
        before = tickets.get(ticket.ticket_id, "acme")
        assert not runner.succeed(ticket.ticket_id, result(), at(3))
        assert not runner.fail(ticket.ticket_id, "late", at(3))
        assert not runner.cancelled(ticket.ticket_id, at(3))
        runner.progress(ticket.ticket_id, 99)
        assert tickets.cancel(ended.ticket_id, "acme", at(4)) == tickets.get(ended.ticket_id, "acme")
        assert tickets.get(ticket.ticket_id, "acme") == before


def test_a_query_that_ended_before_it_was_stopped_has_succeeded(tickets: Tickets, runner: RunnerTickets) -> None:
    asked, _ = ask(tickets)
    runner.claim(at())
    tickets.cancel(asked.ticket_id, "acme", at(1))
    assert runner.succeed(asked.ticket_id, result(), at(2))
    found = tickets.get(asked.ticket_id, "acme")
    assert found is not None
    assert found.status == "succeeded"


def test_tickets_run_in_the_order_in_which_they_were_asked_for(tickets: Tickets, runner: RunnerTickets) -> None:
    asked = [ask(tickets, number, now=at(minute))[0] for number, minute in enumerate((5, 3, 5, 3, 4))]
    order = [1, 3, 4, 0, 2]
    found = [tickets.get(ticket.ticket_id, "acme") for ticket in asked]
    assert [ticket and ticket.position for ticket in found] == [order.index(number) for number in range(5)]
    listed = [ticket.ticket_id for ticket in tickets.list("acme", 10)]
    assert listed == [asked[number].ticket_id for number in reversed(order)]
    assert [ticket.ticket_id for ticket in tickets.list(None, 2)] == listed[:2]
    claimed = [runner.claim(at(10)) for _ in asked]
    assert [ticket and ticket.ticket_id for ticket in claimed] == [asked[number].ticket_id for number in order]


def test_everybody_waits_in_one_queue_and_lists_their_own(tickets: Tickets) -> None:
    mine, _ = ask(tickets, 1, now=at(1))
    other, _ = ask(tickets, 1, customer="other", now=at(0))
    assert [ticket.ticket_id for ticket in tickets.list("acme", 10)] == [mine.ticket_id]
    assert [ticket.ticket_id for ticket in tickets.list(None, 10)] == [mine.ticket_id, other.ticket_id]
    assert [ticket.position for ticket in tickets.list(None, 10)] == [1, 0]


def test_identical_clicks_are_one_query(tickets: Tickets, runner: RunnerTickets) -> None:
    first, reused = ask(tickets, now=at(0))
    assert not reused
    assert ask(tickets, now=at(1)) == (first, True)
    running = runner.claim(at(2))
    assert ask(tickets, now=at(3)) == (running, True)
    assert len(tickets.list(None, 10)) == 1


@pytest.mark.parametrize("kept", [True, False])
def test_a_fresh_result_answers_the_same_query_again(tickets: Tickets, runner: RunnerTickets, kept: bool) -> None:
    for minute in (0, 2):
        asked, _ = ask(tickets, now=at(minute))
        runner.claim(at(minute))
        runner.succeed(asked.ticket_id, result(artifact=kept), at(minute + 1))
    newest = tickets.get(asked.ticket_id, "acme")
    assert ask(tickets, now=at(4), max_age_s=61)[1] is kept
    if kept:
        assert ask(tickets, now=at(4), max_age_s=300) == (newest, True)
        assert ask(tickets, now=at(4), max_age_s=60)[1] is False, "it is just too old"


def test_what_differs_is_not_reused(tickets: Tickets, runner: RunnerTickets) -> None:
    for end in ("succeed", "leave"):
        asked, reused = ask(tickets, customers=["acme", "b"], byte_cap=10, now=at(0))
        assert not reused
        if end == "succeed":
            runner.claim(at(0))
            runner.succeed(asked.ticket_id, result(), at(0))
            assert ask(tickets, customers=["b", "acme"], byte_cap=10, now=at(1), max_age_s=300)[1]
        others = [
            ask(tickets, 1, customers=["acme", "b"], byte_cap=10, now=at(1), max_age_s=300),
            ask(tickets, customer="b", customers=["acme", "b"], byte_cap=10, now=at(1), max_age_s=300),
            ask(tickets, customers=["acme"], byte_cap=10, now=at(1), max_age_s=300),
            ask(tickets, customers=["acme", "b", "c"], byte_cap=10, now=at(1), max_age_s=300),
            ask(tickets, customers=["acme", "b"], byte_cap=11, now=at(1), max_age_s=300),
            ask(tickets, customers=["acme", "b"], byte_cap=None, now=at(1), max_age_s=300),
        ]
        assert not any(reused for _, reused in others)
        for other, _ in others:
            tickets.cancel(other.ticket_id, other.customer, at(1), other.customers)


@pytest.mark.parametrize("end", ["failed", "cancelled", "cancelling"])
def test_what_gives_no_result_is_not_reused(tickets: Tickets, runner: RunnerTickets, end: str) -> None:
    asked, _ = ask(tickets, now=at(0))
    runner.claim(at(0))
    match end:
        case "failed":
            runner.fail(asked.ticket_id, "no", at(1))
        case "cancelled":
            runner.cancelled(asked.ticket_id, at(1))
        case _:
            tickets.cancel(asked.ticket_id, "acme", at(1))
    assert not ask(tickets, now=at(1), max_age_s=300)[1]


def test_a_customer_has_so_many_open_tickets_and_no_more(tickets: Tickets, runner: RunnerTickets) -> None:
    for number in range(MAX_OPEN_TICKETS):
        ask(tickets, number)
    first = runner.claim(at())
    assert first is not None
    with pytest.raises(TooManyTicketsError, match=f"^{MAX_OPEN_TICKETS} queries of this customer") as caught:
        ask(tickets, MAX_OPEN_TICKETS)
    assert caught.value.transient
    assert isinstance(caught.value, QueueError)
    assert len(tickets.list(None, 1_000)) == MAX_OPEN_TICKETS
    assert ask(tickets, 1)[1], "one that is there already is answered"
    assert not ask(tickets, 1, customer="other")[1], "others are not concerned"
    runner.succeed(first.ticket_id, result(), at())
    assert not ask(tickets, MAX_OPEN_TICKETS)[1]


def test_only_a_query_that_succeeded_counts_as_run_to_the_end(tickets: Tickets, runner: RunnerTickets) -> None:
    ends = {"succeeded": 1, "failed": 2, "cancelled": 3, "running": 4, "queued": 5}
    for minute, number in enumerate(ends.values()):
        ask(tickets, number, now=at(minute))
    claimed = [runner.claim(at(9)) for _ in range(4)]
    ids = [ticket.ticket_id for ticket in claimed if ticket is not None]
    runner.succeed(ids[0], result(), at(9))
    runner.fail(ids[1], "no", at(9))
    runner.cancelled(ids[2], at(9))
    assert {end: tickets.finished("acme", hash_of(number)) for end, number in ends.items()} == {
        end: end == "succeeded" for end in ends
    }
    assert not tickets.finished("other", hash_of(1))


def test_a_run_that_was_cut_short_is_tried_once_more(tickets: Tickets, runner: RunnerTickets) -> None:
    asked, _ = ask(tickets, 1, now=at(0))
    stopped, _ = ask(tickets, 2, now=at(1))
    waiting, _ = ask(tickets, 3, now=at(2))
    done, _ = ask(tickets, 4, now=at(-1))
    for _ in range(3):
        runner.claim(at(3))
    runner.succeed(done.ticket_id, result(), at(3))
    runner.progress(asked.ticket_id, 5)
    tickets.cancel(stopped.ticket_id, "acme", at(4))
    finished = tickets.get(done.ticket_id, "acme")
    assert runner.recover(at(5)) == 2
    found = [tickets.get(ticket.ticket_id, "acme") for ticket in (asked, stopped)]
    assert [ticket and (ticket.status, ticket.attempts, ticket.finished_at, ticket.error) for ticket in found] == [
        ("queued", 1, None, None),
        ("cancelled", 1, at(5), None),
    ]
    again = runner.claim(at(6))
    assert again is not None, "it goes first"
    assert (again.ticket_id, again.attempts, again.started_at, again.rows_so_far) == (asked.ticket_id, 2, at(6), 0)
    assert runner.recover(at(7)) == 1
    failed = tickets.get(asked.ticket_id, "acme")
    assert failed is not None
    assert (failed.status, failed.error) == ("failed", "the uploader was stopped twice while it ran")
    assert failed.finished_at == at(7)
    assert runner.recover(at(8)) == 0
    assert tickets.get(waiting.ticket_id, "acme") == waiting._replace(position=0)
    assert tickets.get(done.ticket_id, "acme") == finished
