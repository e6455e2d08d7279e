"""The circuit breaker: what passes when, and what is told of it."""

from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from tests.uploader.fake_warehouse import FakeWarehouse
from tests.uploader.query_samples import queued_events
from tests.uploader.uploader_samples import batch_of, sample_lines

from snowledger_queue import Origin, Spool
from snowledger_uploader import Breaker, Delivery, OwnEvents, RowsRejectedError, WarehouseUnavailableError
from snowledger_uploader._breaker import CLOSED, HALF_OPEN, OPEN, THRESHOLD, Attempt
from snowledger_uploader._breaker_events import BreakerEvents

MAX_PAUSE_S = 2.0


class BreakerMachine(RuleBasedStateMachine):
    """Calls that begin and end in any order, against what the module promises."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(MAX_PAUSE_S, clock=lambda: self.now)
        self.calls: list[Attempt] = []
        self.probe: Attempt | None = None
        self.opened_at = 0.0
        self.loads: set[Attempt] = set()
        self.loads_fail = False

    @rule(load=st.booleans())
    def begin(self, *, load: bool) -> None:
        before, passed = self.breaker.state, True
        call = self.breaker.attempt(load=load)
        try:
            call.__enter__()
        except WarehouseUnavailableError:
            passed = False
        if before == HALF_OPEN:
            assert not passed, "somebody else's probe is under way"
        elif before == OPEN:
            assert self.breaker.state == (HALF_OPEN if passed else OPEN)
            waited_s = self.now - self.opened_at
            assert not passed or waited_s >= MAX_PAUSE_S / 4
            assert passed or waited_s < MAX_PAUSE_S
            self.probe = call if passed else None
        else:
            assert passed
        if passed:
            self.calls.append(call)
            self.loads |= {call} if load else set()

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), kind=st.sampled_from(["answer", "failure", "refusal", "cancelled"]))
    def end(self, data: st.DataObject, kind: str) -> None:
        call = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        before, failures = self.breaker.state, self.breaker.failures
        error: BaseException | None = {
            "answer": None,
            "failure": WarehouseUnavailableError("away"),
            "refusal": RowsRejectedError("a row"),
            "cancelled": KeyboardInterrupt(),
        }[kind]
        call.__exit__(type(error), error, None)
        after = self.breaker.state
        answered = kind in {"answer", "refusal"}
        if answered and (call in self.loads or not self.loads_fail):
            assert (after, self.breaker.failures) == (CLOSED, 0)
            self.loads_fail = False
        elif before == CLOSED:
            assert self.breaker.failures == failures + (kind == "failure")
            assert after == (OPEN if self.breaker.failures >= THRESHOLD else CLOSED)
        elif call is self.probe:
            assert after == OPEN, "the probe has failed, or tells nothing of loads, or nobody knows"
        else:
            assert (after, self.breaker.failures) == (before, failures), "it began before the breaker opened"
        if call in self.loads and self.breaker.failures > failures:
            self.loads_fail = True
        if after == OPEN and (before == CLOSED or call is self.probe):
            self.opened_at = self.now
        if after != HALF_OPEN:
            self.probe = None

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wait_as_told(self) -> None:
        state = self.breaker.state
        self.now += self.breaker.wait_s()
        assert self.breaker.ready() == (state != HALF_OPEN)

    @invariant()
    def holds(self) -> None:
        assert (self.breaker.state == HALF_OPEN) == (self.probe is not None)
        assert 0 <= self.breaker.wait_s() <= MAX_PAUSE_S
        assert self.breaker.ready() or self.breaker.state != CLOSED


def test_while_the_warehouse_is_away_one_probe_passes_at_a_time_and_nothing_else() -> None:
    run_state_machine_as_test(BreakerMachine, settings=settings(max_examples=40, stateful_step_count=40))


def fail(breaker: Breaker, times: int, *, own: bool = False, load: bool = True) -> None:
    for _ in range(times):
        with suppress(WarehouseUnavailableError), breaker.attempt(own=own, load=load):
            raise WarehouseUnavailableError("no answer")


@pytest.fixture
def subject(spool: Spool) -> tuple[Breaker, BreakerEvents]:
    """With pauses that are over at once."""
    breaker = Breaker(max_pause_s=0.0)
    events = BreakerEvents(breaker, OwnEvents(spool), Origin("1", "session"))
    breaker.on_change = events.changed
    return breaker, events


def told(spool: Spool, events: BreakerEvents) -> list[dict[str, object]]:
    events.put()
    names = ("cdesk.fallback_triggered", "cdesk.retry_attempted")
    return [event["feature_json"] for name in names for event in queued_events(spool, name)]


def test_a_long_outage_is_a_few_events(spool: Spool, subject: tuple[Breaker, BreakerEvents]) -> None:
    breaker, events = subject
    fail(breaker, THRESHOLD + 5000)
    with breaker.attempt(load=True):
        pass
    opened, *probes, closed = told(spool, events)
    assert (opened["failures"], opened["reason"]) == (THRESHOLD, "no answer")
    assert [probe["probes"] for probe in probes] == [2**power for power in range(13)]
    assert closed["outcome"] == "succeeded"
    status = breaker.status()
    assert (status.state, status.failures, status.opened, status.retries) == (CLOSED, 0, 1, THRESHOLD + 5000)


def test_what_delays_only_the_uploader_s_own_events_makes_no_further_ones(
    spool: Spool, subject: tuple[Breaker, BreakerEvents]
) -> None:
    breaker, events = subject
    for _ in range(3):
        fail(breaker, THRESHOLD + 3, own=True)
        with breaker.attempt(own=True, load=True):
            pass
    assert told(spool, events) == []
    fail(breaker, THRESHOLD, own=True)
    fail(breaker, 1)
    assert len(told(spool, events)) == 1


def test_an_answer_in_the_middle_of_a_long_call_lets_the_others_pass() -> None:
    breaker = Breaker(max_pause_s=0.0)
    fail(breaker, THRESHOLD, load=False)
    with suppress(WarehouseUnavailableError), breaker.attempt() as answered:
        assert not breaker.ready()
        answered()
        raise WarehouseUnavailableError("the result cannot be written")
    assert (breaker.state, breaker.failures, breaker.retries) == (CLOSED, 0, THRESHOLD)


async def test_a_warehouse_that_takes_no_loads_is_not_back_because_it_answers_queries(
    spool: Spool, subject: tuple[Breaker, BreakerEvents], tmp_path: Path
) -> None:
    """Its disk is full, say."""
    breaker, events = subject
    states: list[str] = []

    def query(_failure: object) -> None:
        with breaker.attempt():
            pass
        states.append(breaker.state)

    warehouse = FakeWarehouse(unavailable=THRESHOLD + 5)
    await Delivery(warehouse, anyio.Event(), query, breaker).deliver(batch_of(tmp_path, sample_lines(1)), None)
    assert states == [CLOSED] * (THRESHOLD - 1) + [OPEN] * 6
    assert (breaker.state, breaker.opened) == (CLOSED, 1)
    assert [event.get("probes") for event in told(spool, events)] == [None, 1, 2, 4, None]


def test_how_long_it_is_away_does_not_hang_on_the_clock_on_the_wall() -> None:
    now = 0.0
    breaker = Breaker(clock=lambda: now)
    assert breaker.away_s() == 0
    fail(breaker, THRESHOLD)
    now = 40.0
    assert breaker.away_s() == 40
