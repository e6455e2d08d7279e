"""The view events: ActivitySchema v2.0 over whatever was logged."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ddl.ddl_samples import (
    LOADED_AT,
    START,
    Row,
    atom,
    each,
    event,
    insert,
    occurrences,
    only,
    plan,
    select,
    stamp,
)
from tests.thorough import examples

from snowledger_ddl import apply


def test_a_complete_event_shows_in_every_column(connection: duckdb.DuckDBPyConnection) -> None:
    logged = event(
        activity_id="0" * 32,
        customer='Åsa "Q" \\ 東京',
        anonymous_customer_id="web:7",
        link="https://example.org/x",
        revenue_impact=-12,
        _sample_rate=0.1,
    )
    row = only(connection, "events", logged)
    features = row.pop("feature_json"), row.pop("_feature_json")
    assert [json.loads(one) for one in features] == [logged["feature_json"]] * 2
    assert row == {
        "activity_id": "0" * 32,
        "ts": START,
        "customer": 'Åsa "Q" \\ 東京',
        "anonymous_customer_id": "web:7",
        "activity": "cdesk.tool_called",
        "revenue_impact": -12.0,
        "link": "https://example.org/x",
        "activity_occurrence": 1,
        "activity_repeated_at": None,
        "_source_system": "claude_desktop",
        "_source_version": "1.2.3",
        "_session_id": "session-1",
        "_query_tag": "cdesk_0123abcd",
        "_schema_version": 1,
        "_sample_rate": 0.1,
        "_batch_id": "batch-1",
        "_loaded_at": LOADED_AT,
    }


TEXTS = ["customer", "anonymous_customer_id", "activity", "link"]
TEXTS += ["_source_system", "_source_version", "_session_id", "_query_tag"]
BAD = [
    *each(TEXTS, ..., None, 5, 1.5, True, ["x"], {"x": 1}),
    *each(["ts"], ..., None, 5, {}, "", "soon", "infinity", "epoch", "2026-11-21"),
    *each(["ts"], *(f"2026-11-21T04:20:47.1{zone}" for zone in ("", "+02:00", "-05", " America/New_York"))),
    *each(["ts"], "2026-13-21T04:20:47.123456Z"),
    *each(["feature_json"], ..., None, 5, "x", "{}", ["x"], True),
    *each(["revenue_impact"], ..., None, "1.5", "nan", True, {}, [1]),
    *each(["_schema_version"], ..., None, "1", 1.5, True, 2**31, 2**70, {}, [1]),
    *each(["_sample_rate"], ..., None, "0.5", True, 0, -0.5, 1.5, {}, [1]),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_missing_or_badly_typed_member_is_null_and_the_others_stay(
    connection: duckdb.DuckDBPyConnection, name: str, value: object
) -> None:
    good = event(link="https://example.org", revenue_impact=1.5, anonymous_customer_id="web:7")
    sound = only(connection, "events", good)
    row = only(connection, "events", {**event(**{**good, name: value}), "activity_id": good["activity_id"]})
    expected = {**sound, name: None}
    if name == "feature_json":
        expected["_feature_json"] = None
    assert row == expected


@pytest.mark.parametrize("payload", ["[]", "5", '"x"', "null", "{}", '[{"ts": 1}]'])
def test_a_payload_that_is_no_event_breaks_no_view(connection: duckdb.DuckDBPyConnection, payload: str) -> None:
    insert(connection, event(activity_id="a" * 32))
    connection.execute("INSERT INTO activities.raw_events VALUES ('b', ?, 'x', ?)", [payload, LOADED_AT])
    rows = select(connection, "FROM activities.events ORDER BY activity_id")
    assert [row["activity_id"] for row in rows] == ["a" * 32, "b"]
    assert rows[1]["activity"] is None
    assert select(connection, "FROM activities.insight_atoms") == []


def test_occurrences_count_per_customer_and_activity(connection: duckdb.DuckDBPyConnection) -> None:
    first, second, other_activity, other_customer, third = (
        event(ts=stamp(0)),
        event(ts=stamp(10)),
        event(ts=stamp(5), activity="cdesk.sql_executed"),
        event(ts=stamp(6), customer="globex"),
        event(ts=stamp(20)),
    )
    insert(connection, first, second, other_activity, other_customer, third)
    assert occurrences(connection) == {
        first["activity_id"]: (1, START + timedelta(seconds=10)),
        second["activity_id"]: (2, START + timedelta(seconds=20)),
        third["activity_id"]: (3, None),
        other_activity["activity_id"]: (1, None),
        other_customer["activity_id"]: (1, None),
    }


def test_a_late_event_moves_the_later_ones_up(connection: duckdb.DuckDBPyConnection) -> None:
    early, late, last = event(ts=stamp(0)), event(ts=stamp(10)), event(ts=stamp(20))
    insert(connection, early, last)
    assert occurrences(connection)[last["activity_id"]] == (2, None)
    insert(connection, late)
    assert occurrences(connection) == {
        early["activity_id"]: (1, START + timedelta(seconds=10)),
        late["activity_id"]: (2, START + timedelta(seconds=20)),
        last["activity_id"]: (3, None),
    }


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_events_of_one_instant_are_counted_in_the_order_of_their_ids(
    connection: duckdb.DuckDBPyConnection, order: tuple[int, ...]
) -> None:
    tied = [event(activity_id=letter * 32) for letter in "abc"]
    insert(connection, *(tied[index] for index in order))
    assert occurrences(connection) == {"a" * 32: (1, START), "b" * 32: (2, START), "c" * 32: (3, None)}


def test_anonymous_customers_are_counted_each_on_their_own(connection: duckdb.DuckDBPyConnection) -> None:
    anonymous = [
        event(customer=..., anonymous_customer_id="web:1", ts=stamp(0)),
        event(customer=None, anonymous_customer_id="web:1", ts=stamp(1)),
        event(customer=..., anonymous_customer_id="web:2", ts=stamp(2)),
        event(customer="acme", anonymous_customer_id="web:1", ts=stamp(3)),
    ]
    insert(connection, *anonymous)
    counted = occurrences(connection)
    assert [counted[one["activity_id"]][0] for one in anonymous] == [1, 2, 1, 1]
    assert counted[anonymous[0]["activity_id"]][1] == START + timedelta(seconds=1)


random_events = st.lists(
    st.fixed_dictionaries(
        {
            "seconds": st.integers(0, 4),  # few, so that ties are frequent
            "customer": st.sampled_from(["acme", "globex", None]),
            "anonymous_customer_id": st.sampled_from(["web:1", "acme", None]),
            "activity": st.sampled_from(["cdesk.user_asked", "cdesk.tool_called"]),
        }
    ),
    max_size=30,
)


@settings(max_examples=examples(10))
@given(drawn=random_events, data=st.data())
def test_occurrences_equal_a_plain_count_whatever_the_order_of_arrival(drawn: list[Row], data: st.DataObject) -> None:
    logged = [
        event(activity_id=f"{data.draw(st.integers(0, 2**64))}-{number}", ts=stamp(one.pop("seconds")), **one)
        for number, one in enumerate(drawn)
    ]
    groups: dict[tuple[str, str | None], list[Row]] = defaultdict(list)
    for one in sorted(logged, key=lambda each: (each["ts"], each["activity_id"])):
        groups[one["activity"], one["customer"] or one["anonymous_customer_id"]].append(one)
    expected = {
        one["activity_id"]: (
            number,
            datetime.fromisoformat(after["ts"]).astimezone(UTC).replace(tzinfo=None) if after else None,
        )
        for group in groups.values()
        for number, (one, after) in enumerate(zip(group, [*group[1:], None], strict=True), start=1)
    }
    with duckdb.connect() as opened:
        apply(opened, "duckdb")
        if logged:
            insert(opened, *data.draw(st.permutations(logged)))
        assert occurrences(opened) == expected


def test_both_names_of_the_features_hold_the_same_value(connection: duckdb.DuckDBPyConnection) -> None:
    insert(connection, *(event(feature_json=one) for one in ({}, {"a": None}, {"ü": [1, {"b": 2.5}]}, None)))
    different = "SELECT 1 FROM activities.events WHERE feature_json IS DISTINCT FROM _feature_json"
    assert connection.execute(different).fetchall() == []


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_times_are_utc_whatever_the_zone_of_the_reader(connection: duckdb.DuckDBPyConnection, zone: str) -> None:
    connection.execute(f"SET TimeZone = '{zone}'")
    row = only(connection, "insight_atoms", atom(valid_from="2026-02-01", valid_to="2026-02-01T09:00:00+02"))
    assert row["recorded_at"] == START
    assert row["valid_from"] == datetime(2026, 2, 1)  # noqa: DTZ001 - the column is UTC without a zone
    assert row["valid_to"] == datetime(2026, 2, 1, 7)  # noqa: DTZ001 - as above


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM activities.events",
        "SELECT activity, count(*) FROM activities.events GROUP BY activity",
        "SELECT ts, feature_json FROM activities.events WHERE customer = 'acme' ORDER BY ts DESC LIMIT 10",
        "FROM activities.insight_atoms",
    ],
)
def test_a_query_pays_for_the_windows_only_when_it_selects_them(
    connection: duckdb.DuckDBPyConnection, query: str
) -> None:
    connection.execute(
        "INSERT INTO activities.raw_events SELECT i, ?, 'batch-1', ? FROM range(200_000) AS r(i)",
        [json.dumps(event()), LOADED_AT],
    )
    assert "WINDOW" not in plan(connection, query)
    assert "WINDOW" in plan(connection, "SELECT max(activity_occurrence) FROM activities.events")


def test_a_filter_on_the_activity_is_applied_before_the_windows(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    explained = plan(connection, "SELECT activity_occurrence FROM activities.events WHERE activity = 'x'")
    window, _, below = explained.partition("WINDOW")
    assert "= 'X'" not in window
    assert "= 'X'" in below
