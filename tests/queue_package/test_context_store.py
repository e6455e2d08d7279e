"""What is folded into state.db: once, whole, and as the time rule says in whatever order it came."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from tests.queue_package.context_samples import (
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

from snowledger_queue import (
    RECENT_EVENTS,
    ActivityCount,
    Changes,
    ContextReader,
    ContextStore,
    Folded,
    Spool,
    StateError,
)

DAY = 24 * 60
FOLDING = Path(__file__).with_name("fold_process_main.py")


@pytest.fixture
def store(spool: Spool) -> Iterator[ContextStore]:
    store = ContextStore.open(spool)
    yield store
    store.close()


@pytest.fixture
def reader(spool: Spool, store: ContextStore) -> Iterator[ContextReader]:
    del store  # makes the file
    reader = ContextReader(spool)
    yield reader
    reader.close()


def rows(store: ContextStore, table: str) -> int:
    [count] = store._connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - our own name
    return int(count)


def test_a_fold_says_what_it_touched_and_moves_the_cursor(store: ContextStore) -> None:
    assert store.cursor is None
    lines = [event(1), event(2, customer="beta"), insight(3, customer="gamma")]
    assert store.fold(changes(lines, "17"), at()) == Folded(customers=3, events=3, atoms=1)
    assert store.cursor == "17"
    only_counted = Changes("18", reset=False, more=False, counts=[("delta", at()[:13], "cdesk.a", 5)], lines=[])
    assert store.fold(only_counted, at()) == Folded(customers=1, events=5, atoms=0)
    assert store.cursor == "18"


def test_what_was_folded_is_there_when_the_store_is_opened_again(spool: Spool, store: ContextStore) -> None:
    store.fold(changes([insight(1, "kept"), event(2)], "a cursor"), at())
    store.confirm(at(1), ["0000000000001-0123456789ab-00000001"])
    store.close()
    again = ContextStore.open(spool)
    assert again.cursor == "a cursor"
    reader = ContextReader(spool)
    context = read(reader)
    assert (values(context), [found.event_id for found in context.recent], context.as_of) == (
        [b'"kept"'],
        [id_of(2)],
        at(1),
    )
    reader.close()
    again.close()


def test_a_newer_atom_replaces_the_older(store: ContextStore, reader: ContextReader) -> None:
    fold(store, insight(1, "old", recorded_at=at(1)))
    fold(store, insight(2, "new", recorded_at=at(2)))
    assert values(read(reader)) == [b'"new"']
    fold(store, insight(3, "late", recorded_at=at(0)))
    assert values(read(reader)) == [b'"new"']
    assert rows(store, "atoms") == 1, "what can never count again is not kept"


def test_atoms_of_one_moment_are_ordered_by_their_id(store: ContextStore, reader: ContextReader) -> None:
    fold(store, insight(2, "second"), insight(1, "first"))
    assert values(read(reader)) == [b'"second"']


def test_an_atom_that_has_not_begun_hides_the_present_one_only_when_it_begins(
    store: ContextStore, reader: ContextReader
) -> None:
    fold(store, insight(1, "present", recorded_at=at(0)))
    fold(store, insight(2, "future", recorded_at=at(1), valid_from=at(10)), now=at(1))
    assert values(read(reader, now=at(9))) == [b'"present"']
    assert values(read(reader, now=at(10))) == [b'"future"']
    # Folding again once it has begun clears the other away.
    fold(store, insight(1, "present", recorded_at=at(0)), now=at(10))
    assert rows(store, "atoms") == 1


def test_an_older_atom_does_not_come_back_when_its_correction_ends(store: ContextStore, reader: ContextReader) -> None:
    fold(store, insight(1, "old", recorded_at=at(0)))
    fold(store, insight(2, "new", recorded_at=at(1), valid_to=at(5)), now=at(1))
    assert values(read(reader, now=at(4))) == [b'"new"']
    assert values(read(reader, now=at(5))) == []
    # Not even when it arrives after the correction has ended.
    fold(store, insight(3, "older still", recorded_at=at(-1)), now=at(6))
    assert values(read(reader, now=at(6))) == []


def test_counts_add_up_over_folds_by_hours(store: ContextStore, reader: ContextReader) -> None:
    now = at(30)
    ages = [0, 24 * 60 - 1, 24 * 60 + 29, 24 * 60 + 31, 7 * DAY + 29, 7 * DAY + 31]
    for number, age in enumerate(ages):
        fold(store, event(number, at(30 - age)), now=now)
    # The hour that began before the moment 24 hours (7 days) ago is counted whole.
    assert read(reader, now=now).counts == [ActivityCount("cdesk.user_asked", 3, 5)]
    # Half an hour later it is another hour.
    assert read(reader, now=at(60)).counts == [ActivityCount("cdesk.user_asked", 1, 4)]


def test_counts_in_the_future_count(store: ContextStore, reader: ContextReader) -> None:
    fold(store, event(1, at(10 * DAY)))
    assert read(reader).counts == [ActivityCount("cdesk.user_asked", 1, 1)]


def test_counts_come_with_the_most_frequent_first(store: ContextStore, reader: ContextReader) -> None:
    hour = at()[:13]
    counts = [("acme", hour, "cdesk.b", 2), ("acme", hour, "cdesk.c", 7), ("acme", hour, "cdesk.a", 2)]
    store.fold(Changes("1", reset=False, more=False, counts=counts, lines=[]), at())
    assert [count.activity for count in read(reader).counts] == ["cdesk.c", "cdesk.a", "cdesk.b"]


def test_hours_that_are_past_counting_are_not_kept(store: ContextStore, reader: ContextReader) -> None:
    fold(store, event(1, at(-9 * DAY)))
    assert rows(store, "activity_hours") == 0
    fold(store, event(2), event(3, customer="beta"), event(4, at(-9 * DAY)))
    assert rows(store, "activity_hours") == 2
    fold(store, event(5, at(9 * DAY)), now=at(9 * DAY))
    assert rows(store, "activity_hours") == 1
    assert read(reader, now=at(9 * DAY)).counts == [ActivityCount("cdesk.user_asked", 1, 1)]


def test_recent_events_are_the_newest_whatever_the_order_and_the_folds(
    store: ContextStore, reader: ContextReader
) -> None:
    lines = [event(number, at(number // 2)) for number in range(30)]
    Random(1).shuffle(lines)
    for first in range(0, 30, 7):
        fold(store, *lines[first : first + 7])
        fold(store, *lines[first : first + 3])  # again: the same events
    newest = [id_of(number) for number in range(29, 29 - RECENT_EVENTS, -1)]
    assert [found.event_id for found in read(reader).recent] == newest


def test_recent_events_keep_what_they_tell(store: ContextStore, reader: ContextReader) -> None:
    lines = [event(1, at(1), text='é\n"\\'), event(2, at(2)), event(3, at(3), long="x" * 300)]
    fold(store, *lines)
    assert read(reader).recent == sorted(in_queue(lines).recent, reverse=True)
    assert [found.features for found in read(reader).recent] == [None, b"{}", '{"text":"é\\n\\"\\\\"}'.encode()]


def test_folding_insights_and_recent_events_again_changes_nothing(store: ContextStore, reader: ContextReader) -> None:
    lines = [insight(1, "a"), insight(2, "b", metric="churn"), event(3)]
    fold(store, *lines)
    before = read(reader)
    fold(store, *lines)
    after = read(reader)
    assert (after.as_of, after.insights, after.recent) == (before.as_of, before.insights, before.recent)


def test_reset_clears_everything_first(store: ContextStore, reader: ContextReader) -> None:
    fold(store, insight(1), event(2), insight(3, customer="beta"))
    store.confirm(at(), ["stem"])
    store.fold(changes([insight(4, "anew")], "cursor of another", reset=True), at())
    context = read(reader)
    assert (context.as_of, values(context), context.recent) == (None, [b'"anew"'], [])
    assert [count.last_7_d for count in context.counts] == [1]
    assert read(reader, customer="beta").insight_count == 0
    assert drained(reader) == frozenset()
    assert store.cursor == "cursor of another"


def drained(reader: ContextReader) -> frozenset[str]:
    seen: list[frozenset[str]] = []

    def queued(stems: frozenset[str]) -> object:
        seen.append(stems)
        return nothing(stems)

    reader.read("acme", queued, at(), 1)  # type: ignore[arg-type]
    return seen[0]


def test_covered_segments_are_named_for_a_minute(store: ContextStore, reader: ContextReader) -> None:
    store.confirm(at(0), ["a", "b"])
    assert drained(reader) == {"a", "b"}
    store.confirm(at(0.5), ["b", "c"])
    assert drained(reader) == {"a", "b", "c"}
    store.confirm(at(1.25), [])
    assert drained(reader) == {"b", "c"}
    store.confirm(at(2), ["d"])
    assert drained(reader) == {"d"}
    assert read(reader).as_of == at(2)


def test_events_of_nobody_and_of_snowledger_and_other_lines_are_passed_over(
    store: ContextStore, reader: ContextReader
) -> None:
    lines = [b"", b"{", b"[]", b"null", b'{"customer":"acme"}', event(1, customer="snowledger"), event(2)]
    assert store.fold(changes(lines), at()) == Folded(1, 1, 0)
    assert [found.event_id for found in read(reader).recent] == [id_of(2)]


@pytest.mark.parametrize("ts", ["", "x", "2026", "2026-11-21 04:00", "~" * 5000, "2026\u0000"])
def test_an_odd_ts_harms_nothing(ts: str, store: ContextStore, reader: ContextReader) -> None:
    members = json.loads(event(1)), json.loads(insight(2, "odd"))
    odd = [json.dumps(member | {"ts": ts}).encode() for member in members]
    fold(store, *odd)
    context = read(reader, queue(*odd))
    assert values(context) == [b'"odd"']
    assert [found.ts for found in context.recent] == [ts]
    fold(store, insight(3, "plain"), event(4))
    assert len(read(reader).recent) == 2


def test_a_large_value_and_a_large_customer_are_kept(store: ContextStore, reader: ContextReader) -> None:
    customer = "\N{SNOWMAN}" * 255
    text = "x" * 250_000
    lines = [insight(number, text, customer=customer, metric=f"m{number}") for number in range(5)]
    fold(store, *lines)
    context = reader.read(customer, nothing, at(), 2)
    assert [len(atom.value) for atom in context.insights] == [250_002] * 2
    assert context.insight_count == 5


def test_a_full_disk_is_transient_and_leaves_the_old_content(store: ContextStore, reader: ContextReader) -> None:
    fold(store, insight(1, "old"))
    before = read(reader)
    [pages] = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    more = [insight(number, "x" * 10_000, metric=f"m{number}") for number in range(2, 12)]
    with pytest.raises(StateError, match="full") as caught:
        store.fold(changes(more, "later"), at())
    assert caught.value.transient
    assert caught.value.__cause__ is not None
    assert (store.cursor, read(reader), store.in_place()) == ("1", before, True)
    store._connection.execute("PRAGMA max_page_count = 100000")
    store.fold(changes(more, "later"), at())
    assert (store.cursor, read(reader).insight_count) == ("later", 11)


def test_a_file_that_may_not_grow_is_transient_and_leaves_the_old_content(spool: Spool) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", FOLDING, "limit", spool.home],
        check=True,
        capture_output=True,
        timeout=30,
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    facts = json.loads(done.stdout)
    assert facts["transient"] is True
    assert facts["cursor_after_error"] == str(facts["folded"])
    assert facts["cursor_after_all"] == "last"


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_kill_in_the_middle_of_folds_leaves_cursor_and_content_agreeing(spool: Spool) -> None:
    chance = Random(1)
    reached = 0
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, FOLDING, "fold", spool.home],
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": ":".join(filter(None, sys.path))},
        ) as process:
            assert process.stdout is not None
            said = reached
            for _ in range(chance.randrange(2, 12)):
                said = int(process.stdout.readline())
            process.kill()
        store = ContextStore.open(spool)
        reached = int(store.cursor or 0)
        assert reached >= said, "what was folded was lost"
        reader = ContextReader(spool)
        for customer in ("customer-0", "customer-49"):
            context = read(reader, customer=customer)
            assert [count.last_7_d for count in context.counts] == [reached]
            assert values(context) == [str(reached).encode()]
            assert context.recent[0].event_id.endswith(f"{reached:08x}")
            assert len(context.recent) == min(reached, RECENT_EVENTS)
        [checked] = store._connection.execute("PRAGMA integrity_check").fetchone()
        assert checked == "ok"
        reader.close()
        store.close()


def test_thousands_of_insights_of_one_key_are_one(store: ContextStore, reader: ContextReader) -> None:
    lines = [insight(number, number, recorded_at=at(number)) for number in range(2_000)]
    Random(2).shuffle(lines)
    fold(store, *lines)
    assert values(read(reader)) == [b"1999"]
    assert rows(store, "atoms") == 1
