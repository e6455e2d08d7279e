"""How long tickets and the files of their results are kept, and what queries cost."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.queue_package.context_samples import START, at
from tests.queue_package.ticket_samples import ask, hash_of, result

from snowledger_queue import Pruned, RunnerTickets, Spool, timestamp

PLENTY = 1 << 40


@pytest.fixture
def tickets(spool: Spool) -> Iterator[RunnerTickets]:
    made = RunnerTickets(spool)
    made.recover(at())
    yield made
    made.close()


def day(number: float) -> str:
    return timestamp(START + timedelta(days=number))


def finished(tickets: RunnerTickets, number: int, when: str) -> str:
    """A ticket that succeeded at this time."""
    asked, _ = ask(tickets, number, now=when)
    assert tickets.claim(when)
    tickets.succeed(asked.ticket_id, result(), when)
    return asked.ticket_id


def artifacts(tickets: RunnerTickets) -> dict[str, bool]:
    return {ticket.ticket_id: ticket.artifact for ticket in tickets.list(None, 1_000)}


def test_old_tickets_go_with_their_files(tickets: RunnerTickets) -> None:
    old, edge, new = (finished(tickets, number, day(number)) for number in range(3))
    assert tickets.prune(day(91), {old: 10, edge: 10, new: 10}, PLENTY) == Pruned(1, [old])
    assert artifacts(tickets) == {edge: True, new: True}
    assert not tickets.finished("acme", hash_of(0))
    assert tickets.prune(day(92), {edge: 10, new: 10}, PLENTY, max_age_days=91) == Pruned(0, [])
    assert tickets.prune(day(92), {new: 10}, PLENTY) == Pruned(1, []), "the file is gone already"


def test_unfinished_tickets_stay_whatever_their_age(tickets: RunnerTickets) -> None:
    running, _ = ask(tickets, 1, now=day(0))
    queued, _ = ask(tickets, 2, now=day(0))
    tickets.claim(day(0))
    assert tickets.prune(day(1_000), {running.ticket_id: 5, queued.ticket_id: 5}, 0) == Pruned(0, [])
    assert tickets.list(None, 10) != []


def test_the_oldest_files_go_beyond_the_cap_and_their_tickets_stay(tickets: RunnerTickets) -> None:
    ids = [finished(tickets, number, day(number)) for number in range(4)]
    sizes = {ids[0]: 1, ids[1]: 50, ids[2]: 30, ids[3]: 30}
    assert tickets.prune(day(4), sizes, 111) == Pruned(0, [])
    assert tickets.prune(day(4), sizes, 109) == Pruned(0, sorted(ids[:2]))
    assert artifacts(tickets) == dict(zip(ids, (False, False, True, True), strict=True))
    assert tickets.finished("acme", hash_of(0)), "a query that ran has run"
    assert not ask(tickets, 1, now=day(4), max_age_s=1e6)[1], "its result is not whole any more"
    assert tickets.prune(day(4), sizes, 109) == Pruned(0, sorted(ids[:2])), "they were not deleted yet"
    assert tickets.prune(day(4), {ids[3]: 30}, 29) == Pruned(0, [ids[3]])


def test_files_that_are_of_no_use_go(tickets: RunnerTickets) -> None:
    kept = finished(tickets, 0, day(0))
    failed, _ = ask(tickets, 1, now=day(0))
    tickets.claim(day(0))
    tickets.fail(failed.ticket_id, "no", day(0))
    sizes = {kept: 1, failed.ticket_id: 1, "f" * 32: 1}
    assert tickets.prune(day(1), sizes, PLENTY) == Pruned(0, sorted([failed.ticket_id, "f" * 32]))


def test_many_old_tickets_are_deleted_some_at_a_time(tickets: RunnerTickets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snowledger_queue._tickets.DELETED_AT_ONCE", 4)
    monkeypatch.setattr("snowledger_queue._ticket_retention.DELETED_AT_ONCE", 4)
    for number in range(8):
        finished(tickets, number, day(0))
    kept = finished(tickets, 9, day(50))
    mark = tickets.mark()
    assert tickets.prune(day(100), {}, PLENTY) == Pruned(8, [])
    assert tickets.mark() != mark
    assert list(artifacts(tickets)) == [kept]


def test_what_queries_cost_is_what_they_ran_within_the_time(tickets: RunnerTickets) -> None:
    assert tickets.spent(at(0), at(60)) == 0
    spans: list[tuple[float, float | None]] = [(-5, -1), (-3, 2), (10, 10.5), (20, 30), (50, None), (-9, 0)]
    for number, (begin, end) in enumerate(spans):
        asked, _ = ask(tickets, number, now=at(-60))
        assert tickets.claim(at(begin))
        if end is not None and number % 2:
            tickets.fail(asked.ticket_id, "no", at(end))
        elif end is not None:
            tickets.succeed(asked.ticket_id, result(), at(end))
    unclaimed, _ = ask(tickets, 99, now=at(5))
    tickets.cancel(unclaimed.ticket_id, "acme", at(6))
    ask(tickets, 100, now=at(5))
    assert tickets.spent(at(0), at(60)) == pytest.approx(60 * (2 + 0.5 + 10 + 10))
    assert tickets.spent(at(25), at(60)) == pytest.approx(60 * (5 + 10))
    assert tickets.spent(at(55), at(56)) == pytest.approx(60)


def test_a_clock_that_was_set_back_costs_nothing(tickets: RunnerTickets) -> None:
    asked, _ = ask(tickets)
    tickets.claim(at(10))
    tickets.succeed(asked.ticket_id, result(), at(9))
    assert tickets.spent(at(0), at(60)) == 0
