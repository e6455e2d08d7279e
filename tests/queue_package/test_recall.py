"""What an event adds to a context: reading a line agrees with the warehouse's views, and takes anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product

import duckdb
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ddl.ddl_samples import Row, atom, event
from tests.queue_package.queue_samples import ORIGIN, sample_event
from tests.queue_package.tail_samples import insight, line
from tests.thorough import examples

from snowledger_ddl import apply
from snowledger_queue import Atom, contribution, new_event, with_checksum
from snowledger_queue._recall import HEADING, HOUR_CHARACTERS, MAX_FEATURE_PREVIEW_BYTES

QUICK = settings(max_examples=examples(25))

MISSING = ...

DATES = (
    "2026-11-21",
    "2024-02-29",
    "2026-02-29",
    "2026-13-21",
    "0002-01-01",
    "9998-12-31",
    "26-11-21",
    "2026-W47-6",
    "",
)
TIMES = (
    "",
    *(f"{mark}04" for mark in "T "),
    *(f"{mark}04:20" for mark in "T t"),
    "T04:20:47",
    "T04:20:47.",
    "T04:20:47.1",
    "T04:20:47.123456",
    "T04:20:47.1234569",
    "T4:2:7",
    "T0420",
    "T04.5",
    "T04:20.5",
    "T04:20:47:11",
    "T24:00",
    "T24:00:00.1",
    "T25:00",
    "T04:60",
    "T23:59:60",
    "T:",
    "T\u0660\u0664:20",
)
ZONES = ("", "Z", "z", "+02", "-0230", "+02:30", "+24:00", "-99:99", "+2", "+02:30:10", " UTC", "Z ")

PERIODS = st.one_of(
    st.just(MISSING),
    st.none(),
    st.builds("{}{}{}".format, st.sampled_from(DATES[:6]), st.sampled_from(TIMES), st.sampled_from(ZONES)),
    st.sampled_from(["2026-11-21", "2026-11-21T00:00:00Z", "2026-11-20T22:00-02:00", "2026-11-22 01:00"]),
    st.text(max_size=5),
    st.sampled_from([0, 1.5, True, [], {}, ["2026-11-21"]]),
)
NAMES: st.SearchStrategy[object] = st.one_of(
    st.sampled_from([MISSING, None, "", " ", "churn", "zürich", 'quo"te', "back\\slash", 1, 1.5, False, [], {}, ["x"]]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4),
)
VALUES = st.one_of(
    st.sampled_from([MISSING, None, "", 0, 1.5, True, [], {}, [None], {"a": {"b": ["ü"]}}]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4),
)
ATOMS = st.fixed_dictionaries(
    {
        "subject": NAMES,
        "metric": NAMES,
        "value": VALUES,
        "provenance_query_hash": NAMES,
        "valid_from": PERIODS,
        "valid_to": PERIODS,
        "verified": st.sampled_from([MISSING, None, True, False, "true", 1]),
    }
)
GOOD_ATOMS = st.fixed_dictionaries({"value": VALUES, "valid_from": PERIODS, "valid_to": PERIODS})


@pytest.fixture(scope="module")
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        apply(opened, "duckdb")
        yield opened


def encoded(one: Row) -> bytes:
    return orjson.dumps(one)


def view(warehouse: duckdb.DuckDBPyConnection, events: list[Row]) -> dict[str, Atom | None]:
    """The atoms as the view ``insight_atoms`` has them; None for those that it quarantines."""
    warehouse.execute("DELETE FROM activities.raw_events")
    # One literal: a row at a time takes DuckDB a millisecond each.
    warehouse.execute(
        "INSERT INTO activities.raw_events SELECT line ->> '$.activity_id', line, 'batch', TIMESTAMP '2026-11-21' "
        "FROM (SELECT unnest(CAST($lines AS JSON[])) AS line)",
        {"lines": [encoded(one).decode() for one in events]},
    )
    rows = warehouse.execute(
        "SELECT subject, metric, recorded_at, atom_id, verified, provenance_query_hash, value, valid_from, valid_to, "
        "is_quarantined FROM activities.insight_atoms"
    ).fetchall()
    found: dict[str, Atom | None] = {}
    for subject, metric, recorded_at, atom_id, verified, query_hash, value, valid_from, valid_to, quarantined in rows:
        found[atom_id] = None
        if not quarantined:
            found[atom_id] = Atom(
                subject,
                metric,
                text(recorded_at) or "",
                atom_id,
                verified,
                query_hash,
                orjson.dumps(orjson.loads(value)),
                text(valid_from),
                text(valid_to),
            )
    return found


def text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.replace(tzinfo=UTC).isoformat(timespec="microseconds")[:26] + "Z"


def read(one: Row) -> Atom | None:
    found = contribution(encoded(one))
    assert found is not None
    assert (found.customer, found.activity, found.event) == ("acme", "cdesk.insight_recorded", None)
    return found.atom


def assert_agrees(warehouse: duckdb.DuckDBPyConnection, events: list[Row]) -> None:
    seen = view(warehouse, events)
    assert len(seen) == len(events)
    for one in events:
        assert read(one) == seen[one["activity_id"]], one["feature_json"]


@QUICK
@given(st.lists(st.one_of(ATOMS, GOOD_ATOMS), min_size=20, max_size=60))
def test_the_queue_and_the_view_agree_which_insights_are_recalled(
    warehouse: duckdb.DuckDBPyConnection, features: list[dict[str, object]]
) -> None:
    assert_agrees(warehouse, [atom(**one) for one in features])


@pytest.mark.parametrize("end", ["valid_from", "valid_to"])
def test_the_queue_and_the_view_read_the_same_times(warehouse: duckdb.DuckDBPyConnection, end: str) -> None:
    times = ["".join(parts) for parts in product(DATES, TIMES, ZONES)]
    events = [atom(**{end: time}) for time in times]
    assert_agrees(warehouse, events)
    recalled = sum(read(one) is not None for one in events)
    assert len(times) / 20 < recalled < len(times) / 2


def test_a_time_before_the_first_year_or_after_the_last_is_not_recalled() -> None:
    for time in ("0000-12-31", "0001-01-01T00:00+01", "9999-12-31T24:00", "9999-12-31T23:00-01:00"):
        assert read(atom(valid_to=time)) is None


@pytest.mark.parametrize("features", [None, [], "text", 1, MISSING])
def test_features_that_are_no_object_are_in_no_context(features: object) -> None:
    assert contribution(encoded(event(feature_json=features))) is None


@pytest.mark.parametrize("member", ["activity_id", "ts", "customer", "activity"])
@pytest.mark.parametrize("value", [None, 1, [], {}, MISSING])
def test_badly_typed_members_are_in_no_context(member: str, value: object) -> None:
    assert contribution(encoded(event(**({member: value})) if value is not MISSING else _without(member))) is None


def _without(member: str) -> Row:
    return {name: value for name, value in event().items() if name != member}


def test_anonymous_and_operational_events_are_in_no_context() -> None:
    anonymous = new_event(
        ORIGIN, activity="cdesk.user_asked", customer=None, anonymous_customer_id="device", feature_json={}
    )
    assert contribution(anonymous.line) is None
    assert contribution(line(1, "snowledger", "cdesk.batch_loaded")) is None
    assert contribution(line(1, "snowledger", "cdesk.insight_recorded")) is None


def test_a_recent_event_has_its_link_and_small_features() -> None:
    found = contribution(line(1, link="https://example.com/a"))
    assert found is not None
    assert found.event == (
        "2026-11-21T00:20:47.000001Z",
        f"{1:032x}",
        "cdesk.user_asked",
        "https://example.com/a",
        b'{"number":"000001"}',
    )
    assert (found.hour, found.atom) == ("2026-11-21T00", None)
    for size, kept in ((0, True), (1, False)):
        features = {"pad": "x" * (MAX_FEATURE_PREVIEW_BYTES + size - len('{"pad":""}'))}
        found = contribution(line(1, feature_json=features))
        assert found is not None
        assert found.event is not None
        assert (found.event.features is not None) == kept


def test_what_is_kept_of_an_event_is_not_larger_than_it_looks() -> None:
    """orjson's bytes hold on to a buffer of kilobytes."""
    import tracemalloc

    tracemalloc.start()
    try:
        kept = [contribution(line(number)) for number in range(300)] + [contribution(insight(n)) for n in range(300)]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(kept) < 1500


@pytest.mark.parametrize("depth", [60, 300, 1000, 100_000])
def test_deep_nesting_is_taken_as_far_as_it_goes(depth: int) -> None:
    value = "[" * depth + "]" * depth
    for activity in ("cdesk.user_asked", "cdesk.insight_recorded"):
        one = json.dumps(event(activity=activity, feature_json={"subject": "s", "value": "?"}))
        contribution(one.replace('"?"', value).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "activity_id": JSON,
        "ts": JSON | st.just("2026"),
        "customer": JSON | st.just("acme"),
        "activity": JSON | st.just("cdesk.insight_recorded"),
        "feature_json": JSON | st.dictionaries(st.sampled_from(["subject", "metric", "value", "valid_to"]), JSON),
        "link": JSON,
    },
)


@settings(QUICK, max_examples=examples(100))
@given(ENVELOPES | JSON | st.binary(max_size=40))
def test_no_payload_raises(payload: object) -> None:
    contribution(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    contribution(sample_event(1).line[:40] + (payload if isinstance(payload, bytes) else b"\xff"))


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)


@settings(QUICK, max_examples=examples(100))
@given(
    customer=st.none() | st.sampled_from(["acme", "snowledger", "zürich", 'quo"te']) | TEXTS,
    anonymous=st.none() | TEXTS,
    activity=st.sampled_from(["cdesk.user_asked", "cdesk.insight_recorded", "cdesk.insight_recorded.x", 'x"y']),
    features=st.dictionaries(TEXTS, TEXTS, max_size=2),
)
def test_the_beginning_of_a_line_says_what_the_whole_line_says(
    customer: str | None, anonymous: str | None, activity: str, features: dict[str, str]
) -> None:
    members: dict[str, object] = {"activity_id": "0" * 32, "ts": "2026-11-21T04:20:47.123456Z", "customer": customer}
    if anonymous is not None:
        members["anonymous_customer_id"] = anonymous
    one = with_checksum(orjson.dumps({**members, "activity": activity, "feature_json": features}))[:-1]
    match, found = HEADING.match(one), contribution(one)
    if match is None:
        return
    ts, said_customer, said_activity = (part.decode() for part in match.groups())
    assert (said_customer, said_activity) == (customer, activity)
    if customer != "snowledger":
        assert found is not None
        assert found.event is not None
        assert (found.customer, found.hour, found.event.ts) == (customer, ts[:HOUR_CHARACTERS], ts)


def test_most_lines_are_known_by_their_beginning() -> None:
    assert HEADING.match(line(1)) is not None
    assert HEADING.match(line(1, "zürich")) is None
    assert HEADING.match(insight(1)) is None
