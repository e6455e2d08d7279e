"""What a server reads: what the time rule says, the same from state.db, from the queue and from both."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.queue_package.context_samples import (
    Both,
    at,
    changes,
    event,
    fold,
    id_of,
    in_queue,
    insight,
    nothing,
    queue,
    read,
    values,
)
from tests.queue_package.ticket_samples import ask
from tests.thorough import examples

from snowledger_queue import (
    RECENT_EVENTS,
    ActivityCount,
    Atom,
    ContextReader,
    ContextStore,
    Position,
    Queued,
    Spool,
    Tickets,
    open_spool,
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Both]:
    """For many examples, each of which begins with a reset."""
    with TemporaryDirectory() as folder:
        spool = open_spool(Path(folder) / "spool")
        made = Both(ContextStore.open(spool), ContextReader(spool))
        # A busy disk takes a tenth of a second for a commit, and there are hundreds.
        made.store._connection.execute("PRAGMA synchronous = OFF")
        yield made
        made.store.close()
        made.reader.close()


@dataclass(frozen=True)
class Told:
    """An insight as a test tells it; times are minutes."""

    number: int
    subject: str
    metric: str
    recorded_at: int
    valid_from: int | None
    valid_to: int | None
    verified: bool
    homes: frozenset[int]
    """The folds that bring it; ``QUEUED`` when it lies in the queue."""

    def line(self) -> bytes:
        return insight(
            self.number,
            self.number,
            subject=self.subject,
            metric=self.metric,
            recorded_at=at(self.recorded_at),
            valid_from=None if self.valid_from is None else at(self.valid_from),
            valid_to=None if self.valid_to is None else at(self.valid_to),
            verified=self.verified,
        )


FOLDS, QUEUED = 3, 3
MINUTES = st.integers(0, 70)
SUBJECTS = ["a", "a/b", "a%", "a_", "A", "é", "e\u0301", "\N{SNOWMAN}", "\N{GRINNING FACE}"]


@st.composite
def histories(draw: st.DrawFn) -> list[Told]:
    numbers = draw(st.lists(st.integers(1, 10_000), unique=True, max_size=14))
    told = []
    for number in numbers:
        begins = draw(st.none() | MINUTES)
        ends = draw(st.none() | st.integers(0 if begins is None else begins + 1, 80))
        told.append(
            Told(
                number,
                draw(st.sampled_from(SUBJECTS)),
                draw(st.sampled_from("mn")),
                draw(st.integers(0, 4)),
                begins,
                ends,
                draw(st.booleans()),
                frozenset(draw(st.sets(st.integers(0, FOLDS), min_size=1, max_size=2))),
            )
        )
    return told


def holding(history: Sequence[Told], now: int, prefix: str = "") -> list[int]:
    """The numbers of the insights that hold, in order: the rule as it is documented."""
    begun = [told for told in history if told.valid_from is None or told.valid_from <= now]
    last = {}
    for told in sorted(begun, key=lambda told: (told.recorded_at, told.number)):
        last[told.subject, told.metric] = told
    valid = [
        told
        for told in last.values()
        if (told.valid_to is None or told.valid_to > now) and told.subject.startswith(prefix)
    ]
    return [told.number for told in sorted(valid, key=lambda t: (t.verified, t.recorded_at, t.number), reverse=True)]


def bring(both: Both, history: Sequence[Told], times: Sequence[int]) -> Queued:
    """Fold what is to be folded; what is in the queue."""
    for number, now in enumerate(times):
        lines = [told.line() for told in history if number in told.homes]
        both.store.fold(changes(lines, reset=number == 0), at(now))
    return in_queue([told.line() for told in history if QUEUED in told.homes])


TIMES = st.lists(MINUTES, min_size=FOLDS + 1, max_size=FOLDS + 1).map(sorted)


@settings(max_examples=examples(50))
@given(history=histories(), times=TIMES, prefix=st.sampled_from(["", *SUBJECTS, "a/", "e", "x"]))
def test_any_history_in_any_folds_gives_what_the_time_rule_says(
    shared: Both, history: list[Told], times: list[int], prefix: str
) -> None:
    queued = bring(shared, history, times[:FOLDS])
    now = times[FOLDS]
    context = shared.reader.read("acme", lambda _: queued, at(now), 100, prefix or None)
    assert values(context) == [str(number).encode() for number in holding(history, now, prefix)]
    assert context.insight_count == len(context.insights)


@settings(max_examples=examples(30))
@given(history=histories(), times=TIMES, limit=st.integers(1, 4))
def test_paging_visits_every_insight_once(shared: Both, history: list[Told], times: list[int], limit: int) -> None:
    queued = bring(shared, history, times[:FOLDS])
    now = times[FOLDS]
    expected = [str(number).encode() for number in holding(history, now)]
    found: list[bytes] = []
    after = None
    while True:
        page = shared.reader.read("acme", lambda _: queued, at(now), limit, None, after)
        assert page.insight_count == len(expected) - len(found)
        assert len(page.insights) == min(limit, page.insight_count)
        if not page.insights:
            break
        found += values(page)
        after = Position(page.insights[-1].verified, page.insights[-1].recorded_at, page.insights[-1].atom_id)
    assert found == expected


@settings(max_examples=examples(30))
@given(history=histories(), times=TIMES, seconds=st.integers(0, 3599))
def test_the_answer_holds_until_it_says_and_not_longer_than_an_hour(
    shared: Both, history: list[Told], times: list[int], seconds: int
) -> None:
    queued = bring(shared, history, times[:FOLDS])
    now = times[FOLDS] + seconds / 3600
    before = shared.reader.read("acme", lambda _: queued, at(now), 100)
    assert at(now) < before.valid_until <= at((now // 60 + 1) * 60)
    turns = [turn for told in history for turn in (told.valid_from, told.valid_to) if turn is not None]
    for later in sorted({now, *(turn for turn in turns if turn > now), *(turn - 1e-5 for turn in turns)}):
        if at(now) < at(later) < before.valid_until:
            assert shared.reader.read("acme", lambda _: queued, at(later), 100) == before
            assert holding(history, int(later)) == [int(value) for value in values(before)]


@settings(max_examples=examples(30))
@given(
    told=st.lists(
        st.tuples(st.integers(-8 * 24 * 60, 3 * 60), st.sets(st.integers(0, FOLDS), min_size=1, max_size=1)),
        max_size=30,
    ),
    now=st.integers(0, 120),
)
def test_counts_and_recent_events_are_those_of_folds_and_queue_together(
    shared: Both, told: list[tuple[int, set[int]]], now: int
) -> None:
    lines = [(event(number, at(minute)), homes) for number, (minute, homes) in enumerate(told)]
    for home in range(FOLDS):
        shared.store.fold(changes([line for line, homes in lines if home in homes], reset=home == 0), at(0))
    context = read(shared.reader, queue(*(line for line, homes in lines if QUEUED in homes)), at(now))
    day, week = at(now - 24 * 60)[:13], at(now - 7 * 24 * 60)[:13]
    in_week = [at(minute) for minute, _ in told if at(minute)[:13] >= week]
    in_day = [ts for ts in in_week if ts[:13] >= day]
    assert context.counts == ([ActivityCount("cdesk.user_asked", len(in_day), len(in_week))] if in_week else [])
    newest = sorted(((at(minute), id_of(number)) for number, (minute, _) in enumerate(told)), reverse=True)
    assert [found[:2] for found in context.recent] == newest[:RECENT_EVENTS]


steps = st.one_of(
    st.tuples(st.just("fold"), st.sets(st.integers(0, 13), max_size=4)),
    st.tuples(st.just("reset"), st.sets(st.integers(0, 13), max_size=2)),
    st.tuples(st.just("queue"), st.sets(st.integers(0, 13), max_size=3)),
    st.tuples(st.just("confirm"), st.sets(st.integers(0, 3))),
    st.tuples(st.just("wait"), st.sets(st.integers(-70, 70), max_size=1)),
)


BEGINS_AND_ENDS = Told(1, "a", "m", 0, 40, 50, False, frozenset({0}))


@settings(max_examples=examples(50))
@given(history=histories(), taken=st.lists(steps, max_size=12), prefix=st.sampled_from([None, "a"]))
@example(history=[BEGINS_AND_ENDS], taken=[("fold", {0}), *(("wait", {n}) for n in (5, 10, 10, -15))], prefix=None)
def test_what_is_at_hand_is_what_a_reading_gives(
    shared: Both, history: list[Told], taken: list[tuple[str, set[int]]], prefix: str | None
) -> None:
    lines = [*(told.line() for told in history), *(event(number, at(number)) for number in range(14 - len(history)))]
    minute, queued = 30, in_queue([])
    shared.store.fold(changes([], reset=True), at(minute))
    for step, numbers in taken:
        match step:
            case "fold" | "reset":
                shared.store.fold(changes([lines[n] for n in numbers], reset=step == "reset"), at(minute))
            case "queue":
                queued = in_queue([lines[n] for n in numbers])
            case "confirm":
                shared.store.confirm(at(minute), [f"s{n}" for n in numbers])
            case _:
                minute += sum(numbers)
        asked = ("acme", lambda _, queued=queued: queued, at(minute), 3, prefix, None, frozenset[str]())
        anew = shared.reader.read(*asked)  # which is not kept
        found = shared.reader.at_hand(*asked, shared.reader.mark())
        if found is None:
            found = shared.reader.read(*asked, shared.reader.mark())
        assert found == anew


def test_neither_what_a_client_asks_for_nor_what_leaves_the_queue_is_kept(both: Both) -> None:
    fold(both.store, insight(1, "folded"))
    mark = both.reader.mark()
    both.reader.read("acme", nothing, at(), 10, allowed=frozenset(), mark=mark)

    def ask(atoms: Sequence[Atom] = (), prefix: str | None = None, after: Position | None = None) -> None:
        queued = Queued(atoms, {}, ())
        assert both.reader.at_hand("acme", lambda _: queued, at(), 10, prefix, after, frozenset(), mark) is not None

    prefix, [atom] = "product" * 1000, in_queue([insight(2, "x" * 1000, recorded_at=at(-1))]).atoms
    before = sys.getrefcount(prefix), sys.getrefcount(atom)
    ask()
    ask(prefix=prefix)
    ask(after=Position(False, at(1), prefix))
    ask([atom])
    assert (sys.getrefcount(prefix), sys.getrefcount(atom)) == before


def test_what_is_folded_while_it_is_in_the_queue_is_there_once(both: Both) -> None:
    lines = [insight(1, "a"), event(2)]
    fold(both.store, *lines)
    context = read(both.reader, queue(*lines))
    assert (values(context), context.insight_count) == ([b'"a"'], 1)
    assert [found.event_id for found in context.recent] == [id_of(2)]


def test_an_insight_that_is_queued_replaces_a_folded_one_before_any_upload(both: Both) -> None:
    fold(both.store, insight(1, "old"))
    assert values(read(both.reader, queue(insight(2, "new", recorded_at=at(1))))) == [b'"new"']
    assert values(read(both.reader, queue(insight(2, "older", recorded_at=at(-1))))) == [b'"old"']


def test_the_queue_is_asked_with_the_segments_that_are_covered(both: Both) -> None:
    both.store.confirm(at(), ["a", "b"])
    seen = []

    def queued(drained: frozenset[str]) -> Queued:
        seen.append(drained)
        # A commit meanwhile is not seen by halves.
        fold(both.store, insight(1, "meanwhile"))
        return Queued((), {}, ())

    assert read(both.reader, queued).insights == []
    assert seen == [{"a", "b"}]
    assert values(read(both.reader)) == [b'"meanwhile"']


def test_customers_do_not_mix(both: Both) -> None:
    names = ["acme", "acme2", "ACME", "acm", "é", "e\u0301"]
    fold(both.store, *(line for n, name in enumerate(names) for line in (insight(n, name, customer=name),)))
    for name in names:
        assert values(read(both.reader, customer=name)) == [f'"{name}"'.encode()]


def test_an_error_of_the_queue_reaches_the_caller_and_ends_the_transaction(both: Both) -> None:
    def fail(_drained: frozenset[str]) -> Queued:
        raise LookupError

    with pytest.raises(LookupError):
        read(both.reader, fail)
    fold(both.store, insight(1, "after"))
    assert values(read(both.reader)) == [b'"after"']


@pytest.mark.parametrize(("customers", "listed"), [(["acme"], 101), (["acme", "beta"], 0)])
def test_what_takes_counting_many_tickets_is_not_read_at_hand_whoever_may_read_them(
    spool: Spool, both: Both, customers: list[str], listed: int
) -> None:
    def count(tickets: Tickets, numbers: range) -> tuple[int, bool]:
        """How many tickets a context has, and whether it is at hand again after a commit."""
        for number in numbers:
            ticket_id = ask(tickets, number, customers=customers)[0].ticket_id
            tickets.cancel(ticket_id, "acme", at(), {"beta"})
        context = both.reader.read("acme", nothing, at(), 10, allowed=frozenset(), mark=both.reader.mark())
        both.store.confirm(at(), [f"a{numbers}"])
        found = both.reader.at_hand("acme", nothing, at(), 10, None, None, frozenset(), both.reader.mark())
        return context.ticket_count, found is not None

    with closing(Tickets(spool)) as tickets:
        assert count(tickets, range(100)) == (min(listed, 100), True)
        assert count(tickets, range(100, 101)) == (listed, False)
