"""The view context_cache: what is known of each customer now, the same as the uploader's local copy."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import duckdb
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.ddl.ddl_samples import LOADED_AT, Row, atom, event, insert, select
from tests.thorough import examples
from tests.uploader.uploader_samples import ORIGIN, batch_of, opened

from snowledger_queue import ContextReader, ContextStore, CustomerContext, Queued, new_event, open_spool, timestamp

FORM = "%Y-%m-%dT%H:%M:%S.%fZ"


def now() -> str:
    return timestamp(datetime.now(UTC))


def ago(**span: float) -> str:
    return timestamp(datetime.now(UTC) - timedelta(**span))


def contexts(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    return {row["customer"]: json.loads(row["context"]) for row in select(connection, "FROM activities.context_cache")}


def recorded(ts: str, **features: object) -> Row:
    """An insight that was logged then."""
    return atom(**features) | {"ts": ts}


def insights(connection: duckdb.DuckDBPyConnection, *events: Row) -> list[Any]:
    """The values of acme's insights, in the view's order."""
    insert(connection, *events)
    return [insight["value"] for insight in contexts(connection)["acme"]["insights"]]


def test_a_customer_s_context_has_its_insights_counts_and_newest_events(connection: duckdb.DuckDBPyConnection) -> None:
    told, asked = ago(minutes=2), ago(minutes=1)
    known = recorded(told, value={"n": [1, None]}, valid_from="2026-01-01", valid_to="9999-01-01T02:00:00+02:00")
    insert(connection, known, event(ts=asked, activity_id="a" * 32, link="https://example.org", feature_json={"a": 1}))
    [row] = select(connection, "FROM activities.context_cache")
    assert (row["customer"], row["as_of"]) == ("acme", LOADED_AT)
    assert json.loads(row["context"]) == {
        "insights": [
            {
                "subject": "churn",
                "metric": "rate",
                "value": {"n": [1, None]},
                "query_hash": "ab" * 32,
                "verified": True,
                "recorded_at": told,
                "valid_from": "2026-01-01T00:00:00.000000Z",
                "valid_to": "9999-01-01T00:00:00.000000Z",
                "insight_id": known["activity_id"],
            }
        ],
        "activity_counts": [
            {"activity": "cdesk.insight_recorded", "last_24_h": 1, "last_7_d": 1},
            {"activity": "cdesk.tool_called", "last_24_h": 1, "last_7_d": 1},
        ],
        "recent_events": [
            {
                "ts": asked,
                "event_id": "a" * 32,
                "activity": "cdesk.tool_called",
                "link": "https://example.org",
                "feature_json": {"a": 1},
            }
        ],
    }


def test_verified_insights_come_first_and_the_newest_of_them(connection: duckdb.DuckDBPyConnection) -> None:
    made = [
        recorded(ago(hours=number), metric=f"m{number}", value=number, verified=number % 2 == 0) for number in range(5)
    ]
    assert insights(connection, *made) == [0, 2, 4, 1, 3]


def test_the_last_insight_that_has_begun_counts_until_it_ends(connection: duckdb.DuckDBPyConnection) -> None:
    assert insights(connection, recorded(ago(days=3), value="old"), recorded(ago(days=2), value="new")) == ["new"]
    assert insights(connection, recorded(ago(days=1), value="later", valid_from="9998-01-01")) == ["new"]
    assert insights(connection, recorded(ago(hours=9), value="bad", valid_from="soon")) == ["new"]
    assert insights(connection, recorded(ago(hours=3), value="ended", valid_to="2026-01-01")) == []


def test_events_of_nobody_and_snowledger_s_own_have_no_context(connection: duckdb.DuckDBPyConnection) -> None:
    insert(connection, event(customer=None, anonymous_customer_id="web:7"), event(customer="snowledger"), event())
    assert list(contexts(connection)) == ["acme"]


@pytest.mark.parametrize(
    ("hours", "counts"), [(0, (1, 1)), (23, (1, 1)), (25.1, (0, 1)), (167, (0, 1)), (169.1, None), (-48, (1, 1))]
)
def test_an_event_is_counted_for_a_day_and_a_week(
    connection: duckdb.DuckDBPyConnection, hours: float, counts: tuple[int, int] | None
) -> None:
    insert(connection, event(ts=ago(hours=hours)))
    expected = [] if counts is None else [(*counts,)]
    found = contexts(connection)["acme"]["activity_counts"]
    assert [(count["last_24_h"], count["last_7_d"]) for count in found] == expected


# --- The view against the copy that the uploader keeps --------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(1 - 2**53, 2**53 - 1)
    | st.floats(-1e15, 1e15)
    # No NUL and no surrogates, which no event may have.
    | st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)
# Far from now, so that nothing begins or ends between the two readings.
moments = st.sampled_from(
    [
        None,
        "2020-01-01",
        "2020-01-01T00:00:00.000001Z",
        "2020-01-01 05:00:00+05:00",
        "2021-06-01T12:00:00",
        "9990-01-01",
        "9990-01-01T00:00:00-03",
        "0001-01-01",
        "soon",
        "2020-13-01",
        "",
        5,
    ]
)


class Sample(NamedTuple):
    """What one event is made of."""

    number: int
    customer: str | None
    hours_ago: float
    activity: str
    features: dict[str, Any]


texts = st.sampled_from(["", "a", "b", "é", 7])
insight_features = st.fixed_dictionaries(
    {},
    optional={
        "subject": st.sampled_from(["a", "b", "é", "", 7]),
        "metric": st.sampled_from(["m", "n"]),
        "value": values,
        "provenance_query_hash": st.sampled_from(["ab" * 32, "ab" * 32, ""]),
        "valid_from": moments,
        "valid_to": moments,
        "verified": st.sampled_from([True, False, None]),
    },
) | st.fixed_dictionaries(
    {
        "subject": st.sampled_from(["a", "b"]),
        "metric": st.just("m"),
        "value": values,
        "provenance_query_hash": st.just("ab" * 32),
        "valid_from": moments,
        "valid_to": moments,
        "verified": st.booleans(),
    }
)
hours = st.one_of(st.sampled_from([0, 1, 23, 24, 25, 167, 168, 169, 191, 193, -30]), st.floats(0, 250), st.just(9000))
samples = st.builds(
    Sample,
    st.integers(0, 60),
    st.sampled_from(["acme", "acme", "beta", 'Åsa "Q"', "snowledger", None]),
    hours,
    st.sampled_from(["cdesk.user_asked", "cdesk.tool_called"]),
    st.fixed_dictionaries({"n": values}, optional={"filler": st.just("x" * 300)}),
) | st.builds(
    Sample,
    st.integers(0, 60),
    st.sampled_from(["acme", "acme", "beta"]),
    hours,
    st.just("cdesk.insight_recorded"),
    insight_features,
)


@settings(max_examples=examples(7))
@given(batches=st.lists(st.tuples(st.lists(samples, min_size=1, max_size=25), st.booleans()), min_size=1, max_size=4))
def test_the_copy_that_is_folded_load_by_load_tells_the_same(batches: list[tuple[list[Sample], bool]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        before = now()
        view, copy = anyio.run(_read_both, Path(name), batches)
        assume(before[:13] == now()[:13])  # no hour has begun in between
    assert set(view) <= set(copy)
    for customer, context in copy.items():
        seen = view.get(customer, {"insights": [], "activity_counts": [], "recent_events": []})
        assert _insights(context) == seen["insights"]
        assert [count._asdict() for count in context.counts] == seen["activity_counts"]
        assert [_recent(one, seen) for one in context.recent] == seen["recent_events"]


async def _read_both(
    folder: Path, batches: Sequence[tuple[list[Sample], bool]]
) -> tuple[dict[str, Any], dict[str, CustomerContext]]:
    spool = open_spool(folder / "spool")
    moment = datetime.now(UTC)
    with closing(ContextStore.open(spool)) as store:
        async with opened(folder / "warehouse.duckdb") as warehouse:
            for made, folds in batches:
                await warehouse.load(batch_of(folder, [_line(sample, moment) for sample in made]))
                if folds:
                    store.fold(await warehouse.changes(store.cursor), now())
            store.fold(await warehouse.changes(store.cursor), now())
            view = contexts(warehouse._require())
    customers = {sample.customer for made, _ in batches for sample in made if sample.customer}
    with closing(ContextReader(spool)) as reader:
        nothing = Queued((), {}, ())
        return view, {name: reader.read(name, lambda _drained: nothing, now(), limit=1000) for name in customers}


def _line(sample: Sample, moment: datetime) -> bytes:
    return new_event(
        ORIGIN,
        activity=sample.activity,
        customer=sample.customer,
        anonymous_customer_id=None if sample.customer else "web:7",
        feature_json=sample.features,
        activity_id=f"{sample.number:032x}",
        ts=timestamp(moment - timedelta(hours=sample.hours_ago)),
    ).line


def _insights(context: CustomerContext) -> list[dict[str, Any]]:
    return [
        {
            "subject": one.subject,
            "metric": one.metric,
            "value": json.loads(one.value),
            "query_hash": one.query_hash,
            "verified": one.verified,
            "recorded_at": one.recorded_at,
            "valid_from": one.valid_from,
            "valid_to": one.valid_to,
            "insight_id": one.atom_id,
        }
        for one in context.insights
    ]


def _recent(one: Any, seen: dict[str, Any]) -> dict[str, Any]:
    """The event as the view has it, which also has features that are too large for the copy."""
    large = {event["event_id"]: event["feature_json"] for event in seen["recent_events"]}
    features = json.loads(one.features) if one.features is not None else large.get(one.event_id)
    assert one.features is not None or len(json.dumps(features)) > 256
    return {
        "ts": one.ts,
        "event_id": one.event_id,
        "activity": one.activity,
        "link": one.link,
        "feature_json": features,
    }
