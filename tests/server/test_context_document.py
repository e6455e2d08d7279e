"""The context document: valid JSON, never larger than asked for, cut in the documented order, readable to its end."""

import bisect
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.thorough import examples

from snowledger_queue import (
    ActivityCount,
    Atom,
    ContextReader,
    CustomerContext,
    Position,
    Queued,
    RecentEvent,
    open_spool,
    parse_strict,
)
from snowledger_server import InvalidArgumentError
from snowledger_server._context import FIRST_INSIGHTS, SMALLEST_INSIGHT, make_document, read_cursor

TS = "2026-11-21T04:20:47.123456Z"
OLDEST_MS = 10**13 - 1  # 300 years, the longest age that is told
SPARE = 5 * 12 + 1  # what is kept free for five numbers of 13 digits and "false"
MEMBERS = "customer as_of age_ms stale truncated left_out next_cursor insights tickets activity_counts recent_events"
LISTS = ("insights", "tickets", "activity_counts", "recent_events")

QUICK = settings(max_examples=examples(30), print_blob=False)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(texts, children, max_size=3),
    max_leaves=5,
)
values = st.one_of(json_values, st.integers(0, 3_000).map(lambda length: "ü" * length)).map(orjson.dumps)
times = st.just(TS) | texts
atoms = st.builds(Atom, texts, texts, times, texts, st.booleans(), texts, values, st.none() | times, st.none() | times)
events = st.builds(
    RecentEvent,
    times,
    texts,
    texts,
    st.none() | texts,
    st.none() | st.dictionaries(texts, json_values, max_size=3).map(orjson.dumps),
)
counts = st.builds(ActivityCount, texts, st.integers(0, 10**9), st.integers(0, 10**12))
sizes = st.integers(512, 6_000) | st.integers(512, 100_000)


@st.composite
def contexts(draw: st.DrawFn) -> CustomerContext:
    """Any, also one of which the reader left insights out; a few atoms many times over, for the sake of speed."""
    kinds = draw(st.lists(atoms, max_size=5))
    insights = [
        atom._replace(subject=f"{number}{atom.subject}")
        for number, atom in enumerate(kinds * draw(st.sampled_from([1, 1, 7, 20])))
    ]
    return CustomerContext(
        as_of=draw(st.none() | st.just(TS)),
        insights=insights,
        insight_count=len(insights) + (draw(st.integers(0, 10**6)) if insights else 0),
        counts=draw(st.lists(counts, max_size=5)),
        recent=draw(st.lists(events, max_size=5)),
        valid_until=TS,
    )


def context(
    insights: Sequence[Atom] = (), counts: Sequence[ActivityCount] = (), recent: Sequence[RecentEvent] = ()
) -> CustomerContext:
    return CustomerContext(TS, list(insights), len(insights), list(counts), list(recent), TS)


def atom(number: int, value: bytes = b"1") -> Atom:
    return Atom(f"s{number}", "m", TS, f"{number:032x}", False, "ab" * 32, value, None, None)


def encode(context: CustomerContext, max_bytes: int, *, page: bool = False, customer: str = "acme") -> dict[str, Any]:
    """The document, checked against what holds for every one."""
    document = make_document(customer, context, max_bytes, page=page)
    for age_ms, stale in ((None, True), (0, False), (OLDEST_MS, False), (10**30, True)):
        encoded, text = document.answer(age_ms, stale=stale)
        assert json.loads(text) == encoded.decode()
        assert len(encoded) <= max_bytes
        found: dict[str, Any] = json.loads(encoded)
        assert parse_strict(encoded) == found
        assert list(found) == MEMBERS.split()
        assert (found["age_ms"], found["stale"]) == (age_ms and min(age_ms, OLDEST_MS), stale)
    assert (found["customer"], found["as_of"]) == (customer, context.as_of)
    assert found["truncated"] is any(found["left_out"].values())
    return found


def least(refusal: pytest.ExceptionInfo[InvalidArgumentError] | InvalidArgumentError) -> int:
    error = refusal if isinstance(refusal, InvalidArgumentError) else refusal.value
    assert error.field == "max_bytes"
    match = re.search(r"the least is (\d+)$", str(error))
    assert match is not None
    return int(match[1])


def in_order(context: CustomerContext, *, page: bool) -> Iterator[tuple[str, str]]:
    """List and name of all entries in the documented order."""
    insights = [("insights", atom.subject) for atom in context.insights]
    yield from insights[:FIRST_INSIGHTS]
    if not page:
        yield from (("activity_counts", count.activity) for count in context.counts)
        yield from (("recent_events", event.event_id) for event in context.recent)
    yield from insights[FIRST_INSIGHTS:]


def shown(document: dict[str, Any]) -> set[tuple[str, int]]:
    """List and index of what is shown."""
    return {(name, index) for name in LISTS for index in range(len(document[name]))}


@QUICK
@given(contexts(), sizes, st.booleans(), texts | st.text(st.characters(exclude_categories=["Cs"]), max_size=255))
def test_any_context_in_any_size_is_a_prefix_of_the_documented_order(
    context: CustomerContext, max_bytes: int, page: bool, customer: str
) -> None:
    try:
        document = encode(context, max_bytes, page=page, customer=customer)
    except InvalidArgumentError as error:
        refusal = error
        # What the error names works, and nothing below it.
        document = encode(context, least(refusal), page=page, customer=customer)
        with pytest.raises(InvalidArgumentError):
            encode(context, least(refusal) - 1, page=page, customer=customer)
    names = {"insights": "subject", "activity_counts": "activity", "recent_events": "event_id"}
    order = list(in_order(context, page=page))
    entries = [(name, entry[key]) for name, key in names.items() for entry in document[name]]
    prefix = order[: len(entries)]
    assert entries == sorted(prefix, key=lambda found: list(names).index(found[0]))
    assert document["tickets"] == []
    assert document["left_out"] == {
        "insights": context.insight_count - len(document["insights"]),
        "insight_values": sum("value_bytes" in insight for insight in document["insights"]),
        "tickets": 0,
        "activity_counts": 0 if page else len(context.counts) - len(document["activity_counts"]),
        "recent_events": 0 if page else len(context.recent) - len(document["recent_events"]),
    }
    last = context.insights[len(document["insights"]) - 1] if document["insights"] else None
    if last is None or not document["left_out"]["insights"]:
        assert document["next_cursor"] is None
    else:
        assert read_cursor(document["next_cursor"]) == Position(last.verified, last.recorded_at, last.atom_id)


@QUICK
@given(contexts(), contexts(), sizes, st.booleans())
def test_with_the_encoded_insights_of_an_earlier_document_it_is_the_same(
    earlier: CustomerContext, context: CustomerContext, max_bytes: int, page: bool
) -> None:
    with suppress(InvalidArgumentError):
        earlier = replace(earlier, insights_version=1)
        before = make_document("acme", earlier, max_bytes, page=page)
        same = replace(context, insights=earlier.insights, insight_count=earlier.insight_count, insights_version=1)
        others = replace(context, insights_version=2)
        for now in (earlier, same, others):
            again = make_document("acme", now, max_bytes, page=page, before=before)
            anew = make_document("acme", now, max_bytes, page=page)
            assert again == anew
            if again.told and now.insights_version == 1 and bool(now.as_of) is bool(earlier.as_of):
                assert again.insights is before.insights


@QUICK
@given(contexts())
def test_what_is_shown_is_what_was_known(context: CustomerContext) -> None:
    document = encode(context, 2**20)
    assert [
        {**insight, "value": orjson.dumps(insight["value"])}
        for insight in document["insights"][: len(context.insights)]
    ] == [
        {
            "subject": atom.subject,
            "metric": atom.metric,
            "value": atom.value,
            "query_hash": atom.query_hash,
            "verified": atom.verified,
            "recorded_at": atom.recorded_at,
            "valid_from": atom.valid_from,
            "valid_to": atom.valid_to,
            "insight_id": atom.atom_id,
        }
        for atom in context.insights
    ]
    assert document["activity_counts"] == [count._asdict() for count in context.counts]
    for entry, event in zip(document["recent_events"], context.recent, strict=True):
        expected: dict[str, Any] = {"ts": event.ts, "event_id": event.event_id, "activity": event.activity}
        if event.link is not None:
            expected["link"] = event.link
        if event.features is not None:
            expected["feature_json"] = json.loads(event.features)
        assert entry == expected


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContextReader]:
    reader = ContextReader(open_spool(Path(tmp_path_factory.mktemp("document")) / "spool"))
    yield reader
    reader.close()


@QUICK
@given(kinds=st.lists(atoms, min_size=1, max_size=4), copies=st.integers(1, 25), max_bytes=sizes, prefix=st.booleans())
def test_following_the_cursor_visits_every_insight_once_and_ends(
    reader: ContextReader, kinds: list[Atom], copies: int, max_bytes: int, prefix: bool
) -> None:
    known = [
        atom._replace(subject=f"s{number}{atom.subject}", atom_id=f"{number}{atom.atom_id}")
        for number, atom in enumerate(kinds * copies)
    ]
    queued = Queued(known, {}, ())

    def read(after: Position | None) -> CustomerContext:
        limit = max_bytes // SMALLEST_INSIGHT + 1
        return reader.read("acme", lambda _: queued, TS, limit, "s" if prefix else None, after)

    all_insights = reader.read("acme", lambda _: queued, TS, 1_000)
    expected = [atom.atom_id for atom in all_insights.insights]
    visited: list[str] = []
    cursor: str | None = None
    while True:
        page = prefix or cursor is not None
        context = read(None if cursor is None else read_cursor(cursor))
        try:
            document = encode(context, max_bytes, page=page)
        except InvalidArgumentError as error:
            max_bytes = least(error)  # a client that does as the error says
            continue
        visited += [insight["insight_id"] for insight in document["insights"]]
        assert document["left_out"]["insights"] == len(expected) - len(visited)
        cursor = document["next_cursor"]
        if cursor is None:
            break
    if visited or page:
        assert visited == expected
    else:
        assert document["left_out"]["insights"] == len(expected), "a first insight that is too large hides the rest"


def test_the_first_insights_come_before_counts_and_events_and_the_others_after_them() -> None:
    full = context(
        [atom(number) for number in range(FIRST_INSIGHTS + 3)],
        [ActivityCount("cdesk.a", 1, 2)],
        [RecentEvent(TS, "e", "cdesk.a", None, None)],
    )
    seen = [shown(encode(full, max_bytes)) for max_bytes in range(512, 13_000, 50)]
    assert [len(found) for found in seen] == sorted(len(found) for found in seen)
    assert (len(seen[0]), len(seen[-1])) == (0, FIRST_INSIGHTS + 5)
    with_counts = next(found for found in seen if ("activity_counts", 0) in found)
    with_events = next(found for found in seen if ("recent_events", 0) in found)
    assert ("insights", FIRST_INSIGHTS - 1) in with_counts
    assert ("insights", FIRST_INSIGHTS) not in with_events
    assert ("activity_counts", 0) in with_events


def test_one_huge_value_does_not_hide_what_comes_after_it() -> None:
    huge = orjson.dumps("x" * 200_000)
    document = encode(context([atom(1), atom(2, huge), atom(3)], [ActivityCount("cdesk.a", 1, 2)]), 2_000)
    first, second, third = document["insights"]
    assert (first["value"], third["value"]) == (1, 1)
    assert "value" not in second
    assert second["value_bytes"] == len(huge)
    assert document["left_out"] == {**dict.fromkeys(document["left_out"], 0), "insight_values": 1}
    assert document["truncated"] is True
    assert document["next_cursor"] is None
    assert encode(context([atom(2, huge)]), 2**20)["truncated"] is False


def test_a_value_of_a_quarter_is_shown_and_one_byte_more_is_not() -> None:
    whole, cut = (orjson.dumps("x" * length) for length in (498, 499))
    assert encode(context([atom(1, whole)]), 2_000)["insights"][0]["value"] == "x" * 498
    assert encode(context([atom(1, cut)]), 2_000)["insights"][0]["value_bytes"] == 501


def test_a_byte_less_than_it_takes_cuts_a_whole_entry() -> None:
    full = context([atom(number) for number in range(3)])
    assert len(encode(full, 4_000)["insights"]) == 3
    largest = bisect.bisect(range(4_000), 2, 600, key=lambda size: len(encode(full, size)["insights"])) - 1
    assert len(encode(full, largest)["insights"]) == 2
    assert len(encode(full, largest + 1)["insights"]) == 3
    # The size is used: all that is free is what the longest age and numbers of left-out entries could take.
    entry = len(orjson.dumps(encode(full, 4_000)["insights"][0]))
    used = len(make_document("acme", full, largest, page=False).answer(OLDEST_MS, stale=False).content)
    assert largest - used <= entry + SPARE + 1


def test_of_thousands_of_small_insights_as_many_are_shown_as_fit() -> None:
    full = context([atom(number) for number in range(5_000)])
    for max_bytes in (2**20, 2**20 - 100, 500_000):
        document = encode(full, max_bytes)
        used = make_document("acme", full, max_bytes, page=False).answer(OLDEST_MS, stale=False).content
        following = orjson.dumps(document["insights"][-1])
        assert max_bytes - len(used) <= SPARE + len(b",") + len(following)


def test_a_size_too_small_for_the_empty_lists_is_refused_with_the_least_that_works() -> None:
    customer = "\u001f" * 255
    with pytest.raises(InvalidArgumentError, match="600 is too small") as refusal:
        make_document(customer, context(), 600, page=False)
    assert least(refusal) > 1_500
    encode(context(), least(refusal), customer=customer)
    with pytest.raises(InvalidArgumentError):
        make_document(customer, context(), least(refusal) - 1, page=False)


def test_the_smallest_size_that_a_client_may_ask_for_has_room_for_a_customer_of_100_characters() -> None:
    assert encode(context([atom(1)]), 512, customer="c" * 100)["left_out"]["insights"] == 1


@pytest.mark.parametrize(
    ("length", "member"), [(1, "value"), (120, "value_bytes"), (250, "value_bytes"), (900, "value_bytes")]
)
def test_a_page_without_room_for_its_first_insight_is_refused_with_the_least_that_works(
    length: int, member: str
) -> None:
    large = atom(1, orjson.dumps("x" * length))._replace(subject="s" * 255)
    for following in ([], [atom(2)]):
        full = context([large, *following])
        assert encode(full, 520)["insights"] == [], "not a page: what else is known is worth an answer"
        with pytest.raises(InvalidArgumentError, match="next insight") as refusal:
            make_document("acme", full, 520, page=True)
        assert member in encode(full, least(refusal), page=True)["insights"][0]
        used = make_document("acme", full, least(refusal), page=True).answer(OLDEST_MS, stale=False).content
        assert least(refusal) - len(used) <= SPARE
        with pytest.raises(InvalidArgumentError):
            make_document("acme", full, least(refusal) - 1, page=True)


def test_no_insight_takes_less_than_what_the_number_of_those_read_reckons_with() -> None:
    empty = Atom("", "", "", "", True, "", b"", None, None)
    one, two = (encode(context([empty._replace(value=b"1")] * number), 2_000) for number in (1, 2))
    assert len(orjson.dumps(two)) - len(orjson.dumps(one)) >= SMALLEST_INSIGHT


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "ä", "!", "1.2.3", "bnVsbA==", "WzEsMiwzXQ==", "WyIxIiwiMiIsIjMiXQ==", "\ud800", "W10", 5, True, [], {}],
)
def test_what_is_no_cursor_is_refused_with_where_to_take_one_from(cursor: object) -> None:
    with pytest.raises(InvalidArgumentError, match="take it from next_cursor of the page before") as refusal:
        read_cursor(cursor)
    assert refusal.value.field == "cursor"


def test_a_page_always_gets_on_or_names_the_size_with_which_it_does() -> None:
    atom = Atom("customer/acme", "note", TS, "0" * 32, False, "ab" * 32, orjson.dumps("x" * 182), None, None)
    context = CustomerContext(TS, [atom, atom._replace(atom_id="1" * 32)], 2, [], [], TS)
    for max_bytes in range(512, 1_000):
        try:
            shown = json.loads(make_document("acme", context, max_bytes, page=True).answer(0, stale=False).content)
        except InvalidArgumentError as error:
            least = int(str(error).rsplit(" ", 1)[1])
            assert least > max_bytes
            make_document("acme", context, least, page=True)
        else:
            assert shown["insights"]
