"""Tickets against a model: two servers and an uploader do whatever they may, in any order."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.queue_package.context_samples import at
from tests.queue_package.ticket_samples import ask, hash_of, result
from tests.thorough import examples

from snowledger_queue import (
    KillSwitchError,
    KillSwitchUser,
    RunnerTickets,
    Ticket,
    Tickets,
    TooManyTicketsError,
    open_spool,
)

QUICK = settings(
    max_examples=examples(15),
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
OPEN = {"queued", "running"}
MOST_OPEN = 3
DAY = 24 * 60

CUSTOMERS = st.sampled_from(["acme", "other"])
OTHERS = st.sampled_from([(), ("third",)])
"""Who is allowed besides."""
WHICH = st.integers(0, 6)
"""Which of the tickets, the newest first; past the last an unknown one."""


@dataclass
class Asked:
    """What the model knows of a ticket; times are minutes."""

    number: int
    customer: str
    key: tuple[object, ...]
    query: int
    others: tuple[str, ...]
    submitted: float
    status: str = "queued"
    started: float | None = None
    finished: float | None = None
    attempts: int = 0
    cancelling: bool = False
    rows: int = 0
    artifact: bool = False
    error: str | None = None

    @property
    def place(self) -> tuple[float, int]:
        return self.submitted, self.number

    def end(self, status: str, minute: float, error: str | None = None) -> None:
        self.status, self.finished, self.error = status, minute, error


class TicketMachine(RuleBasedStateMachine):
    """Every rule is a call of a process; the invariants compare all that can be asked."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        spool = open_spool(self.home / "spool")
        self.runner = RunnerTickets(spool)
        self.runner.recover(at())
        self.servers = [Tickets(spool), Tickets(spool)]
        self.asked: dict[str, Asked] = {}
        self.minute = 0.0
        self.asks = 0
        self.switch: tuple[bool, KillSwitchUser | None] = (False, None)

    def teardown(self) -> None:
        for tickets in (self.runner, *self.servers):
            tickets.close()
        shutil.rmtree(self.home)

    # What the processes do

    @rule(
        server=st.integers(0, 1),
        customer=CUSTOMERS,
        query=st.integers(0, 2),
        others=OTHERS,
        byte_cap=st.sampled_from([None, 10]),
        max_age=st.sampled_from([0, 3, 1_000]),
        late=st.sampled_from([0, 0, 2]),
    )
    def submit(
        self,
        server: int,
        customer: str,
        query: int,
        others: tuple[str, ...],
        byte_cap: int | None,
        max_age: float,
        late: float,
    ) -> None:
        minute = self.minute - late
        key = (customer, query, others, byte_cap)
        same = [(ticket_id, asked) for ticket_id, asked in self.asked.items() if asked.key == key]
        fresh = [
            (asked.finished, asked.number, ticket_id)
            for ticket_id, asked in same
            if asked.status == "succeeded" and asked.artifact and (asked.finished or 0) > minute - max_age
        ]
        running = [ticket_id for ticket_id, asked in same if asked.status in OPEN and not asked.cancelling]
        waiting = sum(asked.customer == customer and asked.status in OPEN for asked in self.asked.values())
        try:
            ticket, reused = ask(
                self.servers[server],
                query,
                customer=customer,
                customers=[customer, *others],
                byte_cap=byte_cap,
                max_age_s=max_age * 60,
                now=at(minute),
            )
        except KillSwitchError:
            assert self.switch[0]
            return
        except TooManyTicketsError:
            assert waiting >= MOST_OPEN
            assert not fresh
            assert not running
            return
        assert not self.switch[0]
        if fresh or running:
            assert reused
            assert ticket.ticket_id == (max(fresh)[-1] if fresh else running[0])
        else:
            assert not reused
            assert waiting < MOST_OPEN
            assert ticket.ticket_id not in self.asked
            self.asks += 1
            self.asked[ticket.ticket_id] = Asked(self.asks, customer, key, query, others, minute)

    @rule(server=st.integers(0, 1), which=WHICH, customer=CUSTOMERS, others=OTHERS)
    def cancel(self, server: int, which: int, customer: str, others: tuple[str, ...]) -> None:
        ticket_id, asked = self._pick(which)
        answer = self.servers[server].cancel(ticket_id, customer, at(self.minute), others)
        own = asked is not None and asked.customer == customer and {*asked.others} <= {*others}
        assert (answer is not None) == own
        if own and asked is not None and asked.status in OPEN:
            asked.cancelling = True
            if asked.status == "queued":
                asked.end("cancelled", self.minute)

    @rule(server=st.integers(0, 1), on=st.booleans(), by=st.sampled_from(["operator", "budget"]))
    def turn_kill_switch(self, server: int, on: bool, by: KillSwitchUser) -> None:
        was, whose = self.switch
        obeyed = not (was and whose == "operator" and by == "budget")
        changed = self.servers[server].set_kill_switch(on=on, reason="why", by=by, now=at(self.minute))
        assert changed == (obeyed and was != on)
        if obeyed and (on or was):
            self.switch = on, by
        if changed and on:
            for asked in self.asked.values():
                if asked.status in OPEN and not asked.cancelling:
                    asked.cancelling, asked.error = True, "the kill switch was turned on: why"
                    if asked.status == "queued":
                        asked.end("cancelled", self.minute, asked.error)

    @rule()
    def claim(self) -> None:
        queued = sorted((asked.place, ticket_id) for ticket_id, asked in self.asked.items() if asked.status == "queued")
        ticket = self.runner.claim(at(self.minute))
        assert (ticket and ticket.ticket_id) == (queued[0][1] if queued else None)
        if ticket is not None:
            asked = self.asked[ticket.ticket_id]
            asked.status, asked.started, asked.rows = "running", self.minute, 0
            asked.attempts += 1

    @rule(which=WHICH, rows=st.integers(0, 3))
    def progress(self, which: int, rows: int) -> None:
        ticket_id, asked = self._pick(which)
        self.runner.progress(ticket_id, rows)
        if asked is not None and asked.status == "running":
            asked.rows = rows

    @rule(which=WHICH, end=st.sampled_from(["succeeded", "succeeded", "failed", "cancelled"]), artifact=st.booleans())
    def end(self, which: int, end: str, artifact: bool) -> None:
        ticket_id, asked = self._pick(which)
        now = at(self.minute)
        match end:
            case "succeeded":
                ended = self.runner.succeed(ticket_id, result(7, artifact=artifact), now)
            case "failed":
                ended = self.runner.fail(ticket_id, "no", now)
            case _:
                ended = self.runner.cancelled(ticket_id, now)
        assert ended == (asked is not None and asked.status == "running")
        if ended and asked is not None:
            asked.end(end, self.minute, {"succeeded": None, "failed": "no"}.get(end, asked.error))
            if end == "succeeded":
                asked.rows, asked.artifact = 7, artifact

    @rule()
    def uploader_was_killed(self) -> None:
        running = [asked for asked in self.asked.values() if asked.status == "running"]
        assert self.runner.recover(at(self.minute)) == len(running)
        for asked in running:
            if asked.cancelling:
                asked.end("cancelled", self.minute, asked.error)
            elif asked.attempts < 2:
                asked.status, asked.started = "queued", None
            else:
                asked.end("failed", self.minute, "the uploader was stopped twice while it ran")

    @rule(there=st.sets(WHICH), cap=st.sampled_from([0, 20, 1_000]))
    def prune(self, there: set[int], cap: int) -> None:
        sizes = {self._pick(which)[0]: 10 for which in there}
        oldest = self.minute - 90 * DAY
        foretold = self.servers[0].prune(at(self.minute), sizes, cap, dry_run=True)
        pruned = self.runner.prune(at(self.minute), sizes, cap)
        assert foretold == pruned
        old = {
            ticket_id
            for ticket_id, asked in self.asked.items()
            if asked.finished is not None and asked.finished < oldest
        }
        kept = {ticket_id for ticket_id, asked in self.asked.items() if asked.status in OPEN}
        files = sorted(
            ((asked.finished, asked.number, ticket_id) for ticket_id, asked in self.asked.items() if asked.artifact),
            reverse=True,
        )
        total = 0
        for *_, ticket_id in files:
            if ticket_id in sizes and ticket_id not in old:
                total += 10
                if total <= cap:
                    kept.add(ticket_id)
                else:
                    self.asked[ticket_id].artifact = False
        assert pruned.tickets == len(old)
        assert pruned.artifacts == sorted(sizes.keys() - kept)
        for ticket_id in old:
            del self.asked[ticket_id]

    @rule(minutes=st.sampled_from([1, 1, 5, 60 * DAY]))
    def time_passes(self, minutes: float) -> None:
        self.minute += minutes

    # What must hold

    @invariant()
    def everything_is_as_it_was_left(self) -> None:
        places = sorted((asked.place, ticket_id) for ticket_id, asked in self.asked.items())
        queue = [ticket_id for _, ticket_id in places if self.asked[ticket_id].status == "queued"]
        for tickets in (self.runner, *self.servers):
            listed = tickets.list(None, 1_000)
            assert [ticket.ticket_id for ticket in listed] == [ticket_id for _, ticket_id in reversed(places)]
            for ticket in listed:
                assert _facts(ticket) == _expected(self.asked[ticket.ticket_id])
                assert ticket.position == (queue.index(ticket.ticket_id) if ticket.ticket_id in queue else None)
                assert tickets.get(ticket.ticket_id, ticket.customer, ("third",)) == ticket
                narrow = tickets.get(ticket.ticket_id, ticket.customer)
                assert narrow == (None if self.asked[ticket.ticket_id].others else ticket)
                stranger = {"acme": "other", "other": "acme"}[ticket.customer]
                assert tickets.get(ticket.ticket_id, stranger, ("third", ticket.customer)) is None
            for customer in ("acme", "other"):
                assert tickets.list(customer, 2) == [ticket for ticket in listed if ticket.customer == customer][:2]
        assert self.runner.cancel_requests() == {
            ticket_id for ticket_id, asked in self.asked.items() if asked.status == "running" and asked.cancelling
        }

    @invariant()
    def who_ran_a_query_is_known(self) -> None:
        every = {(customer, query) for customer in ("acme", "other") for query in range(3)}
        for allowed in ((), ("third",)):
            ran = {
                (asked.customer, asked.query)
                for asked in self.asked.values()
                if asked.status == "succeeded" and {*asked.others} <= {*allowed}
            }
            assert {pair for pair in every if self.servers[0].finished(pair[0], hash_of(pair[1]), allowed)} == ran

    @invariant()
    def nothing_waits_or_runs_unasked_while_the_kill_switch_is_on(self) -> None:
        switch = self.servers[1].kill_switch()
        assert (switch.on, switch.by) == self.switch
        if switch.on:
            found = self.servers[0].list(None, 1_000)
            assert all(ticket.status != "queued" for ticket in found)
            assert all(ticket.cancel_requested for ticket in found if ticket.status == "running")

    @invariant()
    def the_cost_is_that_of_what_ran(self) -> None:
        since = self.minute - 4
        spans = [
            min(self.minute if asked.finished is None else asked.finished, self.minute) - max(asked.started, since)
            for asked in self.asked.values()
            if asked.started is not None
        ]
        assert self.runner.spent(at(since), at(self.minute)) == 60 * sum(max(span, 0) for span in spans)

    def _pick(self, which: int) -> tuple[str, Asked | None]:
        newest = sorted(self.asked.items(), key=lambda item: item[1].number, reverse=True)
        return newest[which] if which < len(newest) else (f"{which:032x}", None)


def _facts(ticket: Ticket) -> tuple[object, ...]:
    times = (ticket.submitted_at, ticket.started_at, ticket.finished_at)
    left = (
        ticket.attempts,
        ticket.cancel_requested,
        ticket.rows_so_far,
        ticket.row_count,
        ticket.artifact,
        ticket.error,
    )
    return (ticket.customer, ticket.query_hash, ticket.status, *times, *left)


def _expected(asked: Asked) -> tuple[object, ...]:
    times = (None if minute is None else at(minute) for minute in (asked.submitted, asked.started, asked.finished))
    row_count = 7 if asked.status == "succeeded" else None
    left = (asked.attempts, asked.cancelling, asked.rows, row_count, asked.artifact, asked.error)
    return (asked.customer, hash_of(asked.query), asked.status, *times, *left)


def test_tickets_are_what_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snowledger_queue._tickets.MAX_OPEN_TICKETS", MOST_OPEN)
    run_state_machine_as_test(TicketMachine, settings=QUICK)
