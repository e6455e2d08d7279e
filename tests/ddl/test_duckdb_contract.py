"""The warehouse contract on real DuckDB files: what apply leaves there, and what the views answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snowledger_ddl import Connection, DdlError, Statement, apply, pending, statements

COLUMNS = {
    "raw_events": {
        "activity_id": "VARCHAR",
        "payload": "JSON",
        "_batch_id": "VARCHAR",
        "_loaded_at": "TIMESTAMP",
    },
    "_ingest_ids": {"activity_id": "UUID", "_batch_id": "VARCHAR"},
    "events": {
        "activity_id": "VARCHAR",
        "ts": "TIMESTAMP",
        "customer": "VARCHAR",
        "anonymous_customer_id": "VARCHAR",
        "activity": "VARCHAR",
        "feature_json": "JSON",
        "_feature_json": "JSON",
        "revenue_impact": "DOUBLE",
        "link": "VARCHAR",
        "activity_occurrence": "BIGINT",
        "activity_repeated_at": "TIMESTAMP",
        "_source_system": "VARCHAR",
        "_source_version": "VARCHAR",
        "_session_id": "VARCHAR",
        "_query_tag": "VARCHAR",
        "_schema_version": "INTEGER",
        "_batch_id": "VARCHAR",
        "_loaded_at": "TIMESTAMP",
    },
    "insight_atoms": {
        "atom_id": "VARCHAR",
        "customer": "VARCHAR",
        "subject": "VARCHAR",
        "metric": "VARCHAR",
        "value": "JSON",
        "provenance_query_hash": "VARCHAR",
        "verified": "BOOLEAN",
        "valid_from": "TIMESTAMP",
        "valid_to": "TIMESTAMP",
        "recorded_at": "TIMESTAMP",
        "is_quarantined": "BOOLEAN",
        "_session_id": "VARCHAR",
    },
}

LOADED_AT = datetime(2026, 11, 21, 5)  # noqa: DTZ001 - the column is UTC without a zone
START = datetime(2026, 11, 21, 4, 20, 47, 123456)  # noqa: DTZ001 - as above

Row = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


@pytest.fixture
def connection(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(path) as opened:
        apply(opened, "duckdb")
        yield opened


def stamp(seconds: float = 0) -> str:
    return (START + timedelta(seconds=seconds)).isoformat(timespec="microseconds") + "Z"


def event(**members: object) -> Row:
    """A complete event; ``name=None`` stands for JSON null, ``name=...`` leaves the member out."""
    complete = {
        "activity_id": uuid4().hex,
        "ts": stamp(),
        "customer": "acme",
        "activity": "cdesk.tool_called",
        "feature_json": {"tool": "search"},
        "_source_system": "claude_desktop",
        "_source_version": "1.2.3",
        "_session_id": "session-1",
        "_query_tag": "cdesk_0123abcd",
        "_schema_version": 1,
        **members,
        "_crc": "00000000",
    }
    return {name: value for name, value in complete.items() if value is not ...}


def atom(**features: object) -> Row:
    complete = {
        "subject": "churn",
        "metric": "rate",
        "value": 0.12,
        "provenance_query_hash": "ab" * 32,
        "valid_from": None,
        "valid_to": None,
        "verified": True,
        **features,
    }
    kept = {name: value for name, value in complete.items() if value is not ...}
    return event(activity="cdesk.insight_recorded", feature_json=kept)


def each(names: Iterable[str], *values: object) -> list[tuple[str, object]]:
    return list(product(names, values))


def insert(connection: duckdb.DuckDBPyConnection, *events: Row) -> None:
    connection.executemany(
        "INSERT INTO activities.raw_events VALUES (?, ?, 'batch-1', ?)",
        [[one["activity_id"], json.dumps(one), LOADED_AT] for one in events],
    )


def select(connection: duckdb.DuckDBPyConnection, query: str) -> list[Row]:
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def only(connection: duckdb.DuckDBPyConnection, view: str, one: Row) -> Row:
    connection.execute("DELETE FROM activities.raw_events")
    insert(connection, one)
    (row,) = select(connection, f"FROM activities.{view}")
    return row


def occurrences(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[int, datetime | None]]:
    rows = connection.execute(
        "SELECT activity_id, activity_occurrence, activity_repeated_at FROM activities.events"
    ).fetchall()
    return {activity_id: (count, repeated_at) for activity_id, count, repeated_at in rows}


def plan(connection: duckdb.DuckDBPyConnection, query: str) -> str:
    (row,) = connection.execute(f"EXPLAIN {query}").fetchall()
    return str(row[1]).upper()


class Recording:
    """A connection that notes what it is given and can fail at one statement."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, fails: Callable[[str], bool]) -> None:
        self.connection = connection
        self.fails = fails
        self.seen: list[str] = []

    def execute(self, sql: str, /) -> duckdb.DuckDBPyConnection:
        self.seen.append(sql)
        if self.fails(sql):
            raise duckdb.IOException("the disk is full")
        return self.connection.execute(sql)


def test_a_duckdb_connection_is_a_connection_of_the_runner() -> None:
    with duckdb.connect() as opened:
        accepted: Connection = opened
        assert pending(accepted, "duckdb") == statements("duckdb")


def test_statements_come_in_file_order_one_object_per_file() -> None:
    every = statements("duckdb")
    files = list(dict.fromkeys(statement.file for statement in every))
    assert files == sorted(files)
    objects = list(dict.fromkeys((statement.file, statement.object) for statement in every))
    assert [name for _, name in objects] == ["activities", *COLUMNS]


def test_no_statement_is_left_empty_or_unrendered() -> None:
    for statement in statements("duckdb"):
        lines = [line for line in statement.sql.splitlines() if not line.lstrip().startswith("--")]
        assert lines[0].startswith(("CREATE ", "COMMENT ON ")), statement
        assert "{version}" not in statement.sql
        assert ";" not in " ".join(lines).split("'")[0]


def test_an_unknown_dialect_is_refused_with_those_that_exist() -> None:
    with pytest.raises(DdlError, match=r"'oracle'.*duckdb"):
        statements("oracle")


def test_apply_creates_every_column_of_the_contract_with_its_type(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    for name, columns in COLUMNS.items():
        described = connection.execute(f"DESCRIBE activities.{name}").fetchall()
        assert {column: kind for column, kind, *_ in described} == columns
        assert [column for column, *_ in described] == list(columns)


def test_columns_of_the_tables_are_never_null(connection: duckdb.DuckDBPyConnection) -> None:
    for name in ("raw_events", "_ingest_ids"):
        described = connection.execute(f"DESCRIBE activities.{name}").fetchall()
        assert {nullable for _, _, nullable, *_ in described} == {"NO"}


def test_every_object_and_column_has_a_comment(connection: duckdb.DuckDBPyConnection) -> None:
    missing = connection.execute("""
        SELECT table_name, column_name FROM duckdb_columns()
        WHERE schema_name = 'activities' AND COALESCE(comment, '') = ''
        UNION ALL
        SELECT table_name, NULL FROM information_schema.tables
        WHERE table_schema = 'activities' AND COALESCE(table_comment, '') = ''
    """).fetchall()
    assert missing == []


def test_a_second_apply_writes_nothing_and_begins_no_transaction(path: Path) -> None:
    with duckdb.connect(path) as opened:
        assert apply(opened, "duckdb") == statements("duckdb")
    before = path.stat().st_mtime_ns, path.read_bytes()
    with duckdb.connect(path) as opened:
        recording = Recording(opened, fails=lambda _: False)
        assert apply(recording, "duckdb") == ()
        assert len(recording.seen) == 1
        assert not path.with_name(path.name + ".wal").exists()
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before


def test_what_one_process_applied_is_up_to_date_for_the_next(path: Path) -> None:
    script = (
        "import sys, duckdb, snowledger_ddl\n"
        "with duckdb.connect(sys.argv[1]) as opened:\n"
        "    print(len(snowledger_ddl.apply(opened, 'duckdb')))"
    )
    command = [sys.executable, "-c", script, str(path)]
    applied = [subprocess.run(command, capture_output=True, check=True, timeout=30).stdout for _ in range(2)]
    assert [int(count) for count in applied] == [len(statements("duckdb")), 0]


def test_apply_keeps_the_events_that_are_there(path: Path) -> None:
    with duckdb.connect(path) as opened:
        apply(opened, "duckdb")
        insert(opened, event(activity_id="a" * 32))
        opened.execute("COMMENT ON TABLE activities.raw_events IS 'another text made this'")
    with duckdb.connect(path) as opened:
        assert {statement.object for statement in apply(opened, "duckdb")} == {"raw_events"}
        assert list(occurrences(opened)) == ["a" * 32]


def test_only_the_objects_that_another_text_made_are_replaced(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("CREATE OR REPLACE VIEW activities.events AS SELECT 1 AS something_older")
    assert {statement.object for statement in pending(connection, "duckdb")} == {"events"}
    apply(connection, "duckdb")
    assert pending(connection, "duckdb") == ()
    assert len(connection.execute("DESCRIBE activities.events").fetchall()) == len(COLUMNS["events"])


def test_a_dropped_object_comes_back(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("DROP VIEW activities.insight_atoms")
    assert {statement.object for statement in apply(connection, "duckdb")} == {"insight_atoms"}
    assert connection.execute("SELECT count(*) FROM activities.insight_atoms").fetchall() == [(0,)]


@pytest.mark.parametrize("done", range(len(statements("duckdb")) + 1))
def test_apply_completes_what_was_applied_up_to_any_statement(done: int) -> None:
    with duckdb.connect() as opened:
        for statement in statements("duckdb")[:done]:
            opened.execute(statement.sql)
        apply(opened, "duckdb")
        assert pending(opened, "duckdb") == ()
        for name, columns in COLUMNS.items():
            assert len(opened.execute(f"DESCRIBE activities.{name}").fetchall()) == len(columns)


@pytest.mark.parametrize("failing", statements("duckdb")[::7], ids=lambda statement: statement.object)
def test_a_failed_apply_names_the_statement_and_leaves_nothing_behind(path: Path, failing: Statement) -> None:
    with duckdb.connect(path) as opened:
        with pytest.raises(DdlError) as caught:
            apply(Recording(opened, fails=lambda sql: sql == failing.sql), "duckdb")
        assert failing.file in str(caught.value)
        assert failing.sql in str(caught.value)
        assert caught.value.statement == failing
        assert isinstance(caught.value.__cause__, duckdb.IOException)
        assert pending(opened, "duckdb") == statements("duckdb")
        apply(opened, "duckdb")
    with duckdb.connect(path, read_only=True) as opened:
        assert pending(opened, "duckdb") == ()


@pytest.mark.parametrize("failing", ["BEGIN TRANSACTION", "COMMIT"])
def test_a_transaction_that_cannot_begin_or_commit_is_a_ddl_error(failing: str) -> None:
    with duckdb.connect() as opened:
        with pytest.raises(DdlError, match="disk is full") as caught:
            apply(Recording(opened, fails=lambda sql: sql == failing), "duckdb")
        assert isinstance(caught.value.__cause__, duckdb.IOException)
        assert len(apply(opened, "duckdb")) == len(statements("duckdb"))


def test_an_unreadable_catalog_is_a_ddl_error() -> None:
    with duckdb.connect() as opened, pytest.raises(DdlError, match=r"applied\.sql"):
        apply(Recording(opened, fails=lambda _: True), "duckdb")


def test_a_complete_event_shows_in_every_column(connection: duckdb.DuckDBPyConnection) -> None:
    logged = event(
        activity_id="0" * 32,
        customer='Åsa "Q" \\ 東京',
        anonymous_customer_id="web:7",
        link="https://example.org/x",
        revenue_impact=-12,
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


@settings(deadline=None, max_examples=60)
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


def test_an_insight_shows_as_an_atom_and_nothing_else_does(connection: duckdb.DuckDBPyConnection) -> None:
    logged = atom(value={"n": [1]}, valid_from="2026-01-01", valid_to="2026-02-01T00:00:00Z")
    insert(connection, logged, event(), event(activity="cdesk.Insight_recorded"))
    (row,) = select(connection, "FROM activities.insight_atoms")
    assert json.loads(row.pop("value")) == {"n": [1]}
    assert row == {
        "atom_id": logged["activity_id"],
        "customer": "acme",
        "subject": "churn",
        "metric": "rate",
        "provenance_query_hash": "ab" * 32,
        "verified": True,
        "valid_from": datetime(2026, 1, 1),  # noqa: DTZ001 - the column is UTC without a zone
        "valid_to": datetime(2026, 2, 1),  # noqa: DTZ001 - as above
        "recorded_at": START,
        "is_quarantined": False,
        "_session_id": "session-1",
    }


REQUIRED = ["subject", "metric", "provenance_query_hash"]
VALIDITY = ["valid_from", "valid_to"]


@pytest.mark.parametrize(
    "features",
    [
        *({name: value} for name, value in each(REQUIRED, ..., None, "", 5, ["x"], {})),
        {"value": ...},
        *({name: value} for name, value in each(VALIDITY, "", "soon", "infinity", "2026-13-01", 5, {})),
        {"valid_to": "2026-01-01T00:00:00 America/New_York"},
        {"valid_from": "2026-02-01", "valid_to": "2026-01-01"},
        {"valid_from": "2026-02-01", "valid_to": "2026-02-01T00:00:00Z"},
        {"valid_from": "2026-02-01T01:00:00Z", "valid_to": "2026-02-01T02:00:00+02:00"},
    ],
)
def test_an_atom_that_is_not_well_formed_is_quarantined(connection: duckdb.DuckDBPyConnection, features: Row) -> None:
    assert only(connection, "insight_atoms", atom(**features))["is_quarantined"] is True


@pytest.mark.parametrize(
    "features",
    [
        {},
        *({name: value} for name, value in each(["value"], None, False, 0, "", [], {})),
        {"verified": False},
        {"valid_from": ..., "valid_to": ..., "verified": ...},
        {"valid_from": "2026-02-01"},
        {"valid_to": "1999-02-01"},
        {"valid_from": "2026-02-01T00:00:00.000001Z", "valid_to": "2026-02-01 00:00:00.000002"},
        {"valid_from": "2026-02-01T01:00:00+02:00", "valid_to": "2026-01-31T23:30:00Z"},
    ],
)
def test_a_well_formed_atom_is_not_quarantined(connection: duckdb.DuckDBPyConnection, features: Row) -> None:
    assert only(connection, "insight_atoms", atom(**features))["is_quarantined"] is False


@pytest.mark.parametrize("features", [..., None, "text", ["subject"], {}])
def test_an_insight_without_usable_features_is_a_quarantined_atom(
    connection: duckdb.DuckDBPyConnection, features: object
) -> None:
    row = only(connection, "insight_atoms", event(activity="cdesk.insight_recorded", feature_json=features))
    assert row["is_quarantined"] is True
    assert row["verified"] is False


@pytest.mark.parametrize("verified", [True, False, None, 1, "true", ...])
def test_an_atom_is_verified_only_by_a_plain_true(connection: duckdb.DuckDBPyConnection, verified: object) -> None:
    assert only(connection, "insight_atoms", atom(verified=verified))["verified"] is (verified is True)


def test_a_null_value_is_told_from_a_missing_one(connection: duckdb.DuckDBPyConnection) -> None:
    assert only(connection, "insight_atoms", atom(value=None))["value"] == "null"
    assert only(connection, "insight_atoms", atom(value=...))["value"] is None


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
