"""Each of our templates gives the known answer to a known stream."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pytest
from tests.ddl.ddl_samples import START, Row, atom, event, insert, stamp
from tests.ddl.template_samples import answer

from snowledger_ddl import load_templates

HOUR, DAY = 3600, 86400


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def logged(name: str, seconds: float = 0, *, customer: str = "acme", session: str = "s1", **features: Any) -> Row:
    return event(
        activity=f"cdesk.{name}", ts=stamp(seconds), customer=customer, _session_id=session, feature_json=features
    )


def test_activity_counts(connection: duckdb.DuckDBPyConnection) -> None:
    insert(
        connection,
        logged("user_asked", 1),
        logged("user_asked", 3, session="s2"),
        logged("user_asked", 2, session="s2"),
        logged("tool_called", 0),
        logged("user_asked", -8 * DAY),
        logged("file_read", -8 * DAY),
    )
    asked = {"activity": "cdesk.user_asked", "events": 3, "sessions": 2, "first_at": at(1), "last_at": at(3)}
    called = {"activity": "cdesk.tool_called", "events": 1, "sessions": 1, "first_at": START, "last_at": START}
    assert answer(connection, "activity_counts") == [asked, called]
    assert answer(connection, "activity_counts", activities=["cdesk.tool_called", "cdesk.x"]) == [called]
    assert [row["events"] for row in answer(connection, "activity_counts", since="30d")] == [4, 1, 1]


def test_activity_over_time(connection: duckdb.DuckDBPyConnection) -> None:
    insert(
        connection,
        logged("user_asked", 0),
        logged("tool_called", 60, session="s2"),
        logged("user_asked", -DAY),
        logged("user_asked", -6 * DAY),
        logged("user_asked", -60 * DAY),
    )
    day = datetime(2026, 11, 21)  # noqa: DTZ001 - the columns are UTC without a zone
    assert answer(connection, "activity_over_time") == [
        {"bucket_start": day - timedelta(days=6), "events": 1, "sessions": 1},
        {"bucket_start": day - timedelta(days=1), "events": 1, "sessions": 1},
        {"bucket_start": day, "events": 2, "sessions": 2},
    ]

    def starts(**params: Any) -> list[tuple[datetime, int]]:
        rows = answer(connection, "activity_over_time", **params)
        return [(row["bucket_start"], row["events"]) for row in rows]

    assert starts(bucket="hour", activity="cdesk.tool_called") == [(day + timedelta(hours=4), 1)]
    monday = day - timedelta(days=5)
    assert starts(bucket="week") == [(monday - timedelta(days=7), 1), (monday, 3)]
    assert starts(bucket="month", since="90d") == [(day.replace(month=9, day=1), 1), (day.replace(day=1), 4)]


def test_recent_events(connection: duckdb.DuckDBPyConnection) -> None:
    tagged = logged("tool_called", 2, session="s2", tool="search") | {"_query_tag": "cdesk_99999999"}
    linked = logged("file_read", 1) | {"link": "https://example.org/x", "revenue_impact": 2.5}
    insert(connection, logged("user_asked", 0), linked, tagged, logged("user_asked", -2 * DAY))
    rows = answer(connection, "recent_events")
    assert [row["activity"] for row in rows] == ["cdesk.tool_called", "cdesk.file_read", "cdesk.user_asked"]
    assert json.loads(rows[0].pop("features")) == {"tool": "search"}
    assert rows[0] == {
        "ts": at(2),
        "activity": "cdesk.tool_called",
        "event_id": tagged["activity_id"],
        "link": None,
        "revenue_impact": None,
        "session_id": "s2",
        "query_tag": "cdesk_99999999",
    }
    assert (rows[1]["link"], rows[1]["revenue_impact"]) == ("https://example.org/x", 2.5)
    found = [
        answer(connection, "recent_events", **params)
        for params in (
            {"activity": "cdesk.file_read"},
            {"session_id": "s2"},
            {"query_tag": "cdesk_99999999"},
            {"limit": 1},
        )
    ]
    assert [[row["ts"] for row in one] for one in found] == [[at(1)], [at(2)], [at(2)], [at(2)]]
    assert len(answer(connection, "recent_events", since="7d")) == 4


def test_active_customers(connection: duckdb.DuckDBPyConnection) -> None:
    insert(
        connection,
        logged("user_asked", 0),
        logged("user_asked", -DAY, session="s2"),
        logged("user_asked", -DAY + 5, session="s2"),
        logged("user_asked", 5, customer="beta"),
        logged("user_asked", -40 * DAY, customer="gamma"),
    )
    every = ["acme", "beta", "gamma", "delta"]
    acme = {"customer": "acme", "events": 3, "sessions": 2, "active_days": 2, "first_at": at(-DAY), "last_at": START}
    beta = {"customer": "beta", "events": 1, "sessions": 1, "active_days": 1, "first_at": at(5), "last_at": at(5)}
    assert answer(connection, "active_customers", customers=every) == [acme, beta]
    assert answer(connection, "active_customers", customers=every, min_events=2) == [acme]
    assert len(answer(connection, "active_customers", customers=every, since="60d")) == 3


def test_sessions(connection: duckdb.DuckDBPyConnection) -> None:
    insert(
        connection,
        logged("session_started", 0),
        *(logged(name, 1) for name in ("user_asked", "tool_called", "tool_called", "sql_executed")),
        *(logged(name, 2.5) for name in ("insight_recorded", "error_encountered")),
        logged("user_asked", 9, session="s2"),
        logged("user_asked", 9) | {"_session_id": None},
    )
    second, first = answer(connection, "sessions")
    assert first == {
        "session_id": "s1",
        "first_at": START,
        "last_at": at(2.5),
        "seconds": 2.5,
        "events": 7,
        "questions": 1,
        "tool_calls": 2,
        "queries": 1,
        "insights": 1,
        "errors": 1,
    }
    assert (second["session_id"], second["seconds"], second["questions"]) == ("s2", 0.0, 1)
    assert [row["session_id"] for row in answer(connection, "sessions", min_events=2)] == ["s1"]


STEPS: dict[str, Any] = {"step_1": "cdesk.a", "step_2": "cdesk.b", "step_3": "cdesk.c", "step_4": "cdesk.d"}


def funnel(connection: duckdb.DuckDBPyConnection, **params: Any) -> list[tuple[Any, ...]]:
    rows = answer(connection, "funnel", customers=["acme", "beta"], **STEPS | params)
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [(row["reached"], row["share_of_first"], row["share_of_previous"]) for row in rows]


def test_funnel(connection: duckdb.DuckDBPyConnection) -> None:
    insert(
        connection,
        # In order, with repetitions.
        *(logged(name, second) for second, name in enumerate("baabbcd")),
        # Stops at b; its c came before.
        logged("c", 0, session="s2"),
        logged("a", 1, session="s2"),
        logged("b", 3, session="s2"),
        # b comes too late for a funnel of an hour.
        logged("a", 0, session="s3", customer="beta"),
        logged("b", 2 * HOUR, session="s3", customer="beta"),
        # Only a; and b in one moment with it.
        logged("a", 0, session="s4", customer="beta"),
        logged("a", 0, session="s5", customer="beta"),
        logged("b", 0, session="s5", customer="beta"),
        # Never enters, has no session, is somebody else's, is too old.
        logged("b", 0, session="s6"),
        logged("a", 0) | {"_session_id": None},
        logged("a", 0, session="s7", customer="gamma"),
        logged("a", -40 * DAY, session="s8"),
    )
    assert funnel(connection) == [(5, 1.0, None), (4, 0.8, 0.8), (1, 0.2, 0.25), (1, 0.2, 1.0)]
    assert [reached for reached, *_ in funnel(connection, within="1h")] == [5, 3, 1, 1]
    assert [reached for reached, *_ in funnel(connection, per="customer")] == [2, 2, 1, 1]
    assert len(funnel(connection, step_4="")) == 3
    assert len(funnel(connection, step_3="")) == 2
    assert funnel(connection, step_1="cdesk.none") == [(0, None, None)] * 4
    rows = answer(connection, "funnel", customers=["acme"], **STEPS)
    assert [row["activity"] for row in rows] == list(STEPS.values())
    assert [row["median_seconds_from_first"] for row in rows] == [0, 2, 4, 5]


def test_a_funnel_of_one_activity_twice_needs_two_events(connection: duckdb.DuckDBPyConnection) -> None:
    insert(connection, logged("a", 0), logged("a", 1), logged("a", 0, session="s2"))
    assert [reached for reached, *_ in funnel(connection, step_2="cdesk.a", step_3="", step_4="")] == [2, 1]


def test_retention(connection: duckdb.DuckDBPyConnection) -> None:
    week = 7 * DAY
    insert(
        connection,
        *(logged("user_asked", -3 * week, customer=name) for name in ("acme", "beta")),
        *(logged("user_asked", -week, customer=name) for name in ("acme", "acme", "gamma")),
        logged("tool_called", 0),
        logged("user_asked", -20 * week, customer="delta"),
        logged("user_asked", 0, customer="delta"),
    )
    every = ["acme", "beta", "gamma", "delta"]

    def cohorts(**params: Any) -> list[tuple[Any, ...]]:
        return [tuple(row.values())[1:] for row in answer(connection, "retention", customers=every, **params)]

    assert cohorts() == [(0, 2, 2, 1.0), (2, 1, 2, 0.5), (3, 1, 2, 0.5), (0, 1, 1, 1.0)]
    assert cohorts(activity="cdesk.user_asked") == [(0, 2, 2, 1.0), (2, 1, 2, 0.5), (0, 1, 1, 1.0)]
    assert [row[0] for row in cohorts(bucket="day")] == [0, 14, 21, 0]
    assert (20, 1, 1, 1.0) in cohorts(since="365d")
    assert (5, 1, 1, 1.0) in cohorts(since="365d", bucket="month") or (4, 1, 1, 1.0) in cohorts(
        since="365d", bucket="month"
    )
    first = answer(connection, "retention", customers=every)[0]
    assert first["cohort_start"] == datetime(2026, 10, 26)  # noqa: DTZ001 - a Monday, in UTC


def test_time_between(connection: duckdb.DuckDBPyConnection) -> None:
    insert(
        connection,
        # Answered after 4 s; the second question has the same answer, after 1 s.
        logged("user_asked", 0),
        logged("user_asked", 3),
        logged("claude_responded", 4),
        logged("claude_responded", 9),
        # In the same moment.
        logged("user_asked", 20),
        logged("claude_responded", 20),
        # Answered in another session only; too late; without a session.
        logged("user_asked", 30, session="s2"),
        logged("claude_responded", 35, session="s3"),
        logged("user_asked", 0, session="s4"),
        logged("claude_responded", 1800, session="s4"),
        logged("user_asked", 0) | {"_session_id": None},
    )
    assert answer(connection, "time_between", within="10m") == [
        {
            "from_activity": "cdesk.user_asked",
            "to_activity": "cdesk.claude_responded",
            "begun": 5,
            "ended": 3,
            "without_end": 2,
            "min_seconds": 0.0,
            "median_seconds": 1.0,
            "p95_seconds": pytest.approx(3.7),
            "max_seconds": 4.0,
        }
    ]
    [row] = answer(connection, "time_between", per="customer")
    assert (row["begun"], row["ended"], row["max_seconds"]) == (6, 6, 5.0)
    [row] = answer(connection, "time_between", from_activity="cdesk.user_asked", to_activity="cdesk.user_asked")
    assert (row["begun"], row["ended"]) == (5, 2)


def insight(seconds: float, **features: Any) -> Row:
    return atom(**features) | {"ts": stamp(seconds)}


def test_insights_by_subject(connection: duckdb.DuckDBPyConnection) -> None:
    newest = insight(5, subject="product/pro", metric="mrr", value=3)
    insert(
        connection,
        insight(1, subject="product/pro", metric="mrr", value=1),
        newest,
        insight(9, subject="product/pro", metric="mrr", value=9, valid_from="2027-01-01"),
        insight(1, subject="product/pro", metric="users", value={"n": 1}, verified=False),
        insight(1, subject="product/team", metric="mrr", value=7),
        insight(2, subject="product/team", metric="mrr", value=8, valid_to="2026-01-01"),
        insight(2, subject="region/emea", metric=5),
        insight(2, subject="customer/x", metric="mrr"),
    )
    first, second = answer(connection, "insights_by_subject", subject_prefix="product/")
    assert first == {
        "subject": "product/pro",
        "metric": "mrr",
        "value": "3",
        "verified": True,
        "recorded_at": at(5),
        "valid_from": None,
        "valid_to": None,
        "query_hash": "ab" * 32,
        "insight_id": newest["activity_id"],
    }
    assert (second["metric"], second["verified"]) == ("users", False)
    every = answer(connection, "insights_by_subject")
    assert [row["subject"] for row in every] == ["customer/x", "product/pro", "product/pro"]
    assert len(answer(connection, "insights_by_subject", metric="mrr")) == 2
    assert len(answer(connection, "insights_by_subject", verified_only=True)) == 2


def test_insight_history(connection: duckdb.DuckDBPyConnection) -> None:
    insert(
        connection,
        insight(1, subject="product/pro", metric="mrr", value=1, valid_to="2026-12-01"),
        insight(5, subject="product/pro", metric="mrr", value=3, verified=False),
        insight(3, subject="product/pro", metric="users", value=2, valid_from="soon"),
        insight(1, subject="product/pro2", metric="mrr"),
    )
    rows = answer(connection, "insight_history", subject="product/pro")
    assert [(row["recorded_at"], row["metric"], row["value"], row["is_quarantined"]) for row in rows] == [
        (at(5), "mrr", "3", False),
        (at(3), "users", "2", True),
        (at(1), "mrr", "1", False),
    ]
    assert [row["verified"] for row in rows] == [False, True, True]
    assert len(answer(connection, "insight_history", subject="product/pro", metric="mrr")) == 2
    assert answer(connection, "insight_history", subject="product/") == []


def test_provenance(connection: duckdb.DuckDBPyConnection) -> None:
    of, other = "ab" * 32, "cd" * 32
    insert(
        connection,
        logged("sql_executed", 0, query_hash=of, template="errors"),
        logged("sql_completed", 1, query_hash=of, template="errors", status="succeeded"),
        logged("artifact_created", 2, query_hash=of, template="errors"),
        insight(3, subject="product/pro", metric="mrr", value=1, provenance_query_hash=of),
        insight(3, provenance_query_hash=other),
        logged("sql_executed", 0, query_hash=other),
        logged("tool_called", 0, query_hash=of),
    )
    rows = answer(connection, "provenance", query_hash=of.upper())
    assert [row["activity"].removeprefix("cdesk.") for row in rows] == [
        "sql_executed",
        "sql_completed",
        "artifact_created",
        "insight_recorded",
    ]
    assert [row["template"] for row in rows] == ["errors"] * 3 + [None]
    assert [row["status"] for row in rows] == [None, "succeeded", None, None]
    assert (rows[3]["subject"], rows[3]["metric"], rows[3]["value"]) == ("product/pro", "mrr", "1")


def test_tool_latency(connection: duckdb.DuckDBPyConnection) -> None:
    insert(
        connection,
        *(logged("tool_called", tool="search", latency_ms=ms, ok=True) for ms in (10, 20, 30)),
        logged("tool_called", tool="search", latency_ms=400.5, ok=False),
        logged("tool_called", tool="schema", latency_ms=5, ok=True),
        # What tools log wrongly is a call all the same.
        *(logged("tool_called", tool="odd", latency_ms=value) for value in (None, "fast", "nan", -1, "inf", [1])),
        logged("tool_called"),
        logged("tool_called", -30 * DAY, tool="search", latency_ms=9999),
    )
    rows = {row.pop("tool"): row for row in answer(connection, "tool_latency")}
    assert list(rows) == ["search", "schema", "(not named)", "odd"]
    assert rows["search"] == {
        "calls": 4,
        "failed": 1,
        "failed_share": 0.25,
        "median_ms": 25.0,
        "p95_ms": pytest.approx(344.925),
        "max_ms": 400.5,
    }
    assert rows["odd"] == {
        "calls": 6,
        "failed": 0,
        "failed_share": 0.0,
        "median_ms": None,
        "p95_ms": None,
        "max_ms": None,
    }
    assert [row["tool"] for row in answer(connection, "tool_latency", tool="schema")] == ["schema"]


def test_errors(connection: duckdb.DuckDBPyConnection) -> None:
    slow: dict[str, Any] = {"where": "sql", "message": "Statement timed out", "retryable": True}
    insert(
        connection,
        logged("error_encountered", 0, **slow),
        logged("error_encountered", 9, session="s2", **slow),
        logged("error_encountered", 5, **slow | {"retryable": False}),
        logged("error_encountered", 6, where="file", message="no such file"),
        logged("error_encountered", 7),
        logged("error_encountered", -30 * DAY, **slow),
    )
    rows = answer(connection, "errors")
    assert rows[0] == {
        "place": "sql",
        "message": "Statement timed out",
        "times": 3,
        "retryable_times": 2,
        "sessions": 2,
        "first_at": START,
        "last_at": at(9),
    }
    assert [(row["place"], row["message"]) for row in rows[1:]] == [
        ("(not said)", "(no message)"),
        ("file", "no such file"),
    ]
    assert len(answer(connection, "errors", place="file")) == 1
    assert len(answer(connection, "errors", containing="TIMED")) == 1
    assert answer(connection, "errors", containing="%") == []


def test_query_cost_by_tag(connection: duckdb.DuckDBPyConnection) -> None:
    cheap: dict[str, Any] = {
        "query_tag": "cdesk_1",
        "template": "errors",
        "ms": 250,
        "rows": 5,
        "bytes": 100,
        "status": "succeeded",
    }
    insert(
        connection,
        logged("sql_completed", **cheap, credits_estimate=0.001),
        logged("sql_completed", **cheap, credits_estimate=0.002),
        logged("sql_completed", **cheap | {"query_tag": "cdesk_2", "status": "failed", "rows": None}),
        # As other tools log it; the tag is then that of the event.
        logged("sql_completed", query_hash="ab", rows=7, ms=40),
        logged("sql_completed", ms="nan", rows="many", bytes=-5, credits_estimate="inf"),
    )
    rows = {row.pop("query_tag"): row for row in answer(connection, "query_cost_by_tag")}
    assert list(rows) == ["cdesk_1", "cdesk_2", "cdesk_0123abcd"]
    assert rows["cdesk_1"] == {
        "template": "errors",
        "queries": 2,
        "not_succeeded": 0,
        "seconds": 0.5,
        "result_rows": 10,
        "result_bytes": 200,
        "credits_estimate": 0.003,
    }
    assert (rows["cdesk_2"]["not_succeeded"], rows["cdesk_2"]["credits_estimate"]) == (1, None)
    assert rows["cdesk_0123abcd"]["queries"] == 2
    assert (rows["cdesk_0123abcd"]["seconds"], rows["cdesk_0123abcd"]["result_rows"]) == (0.04, 7)
    by_template = answer(connection, "query_cost_by_tag", by="template")
    assert [(row["query_tag"], row["template"], row["queries"]) for row in by_template] == [
        (None, "errors", 3),
        (None, None, 2),
    ]


def test_artifacts(connection: duckdb.DuckDBPyConnection) -> None:
    features: dict[str, Any] = {
        "artifact_id": "a1",
        "ticket_id": "a1",
        "template": "errors",
        "query_hash": "ab",
        "query_tag": "cdesk_1",
    }
    features |= {"format": "parquet", "rows": 12, "bytes": 3456, "path": "artifacts/a1.parquet"}
    insert(
        connection,
        logged("artifact_created", 0, **features),
        logged("artifact_created", 5, artifact_id="a2", template="sessions"),
        logged("artifact_created", -60 * DAY, artifact_id="a3"),
    )
    newest, oldest = answer(connection, "artifacts")
    assert newest["artifact_id"] == "a2"
    counted = {"result_rows": features.pop("rows"), "result_bytes": features.pop("bytes")}
    assert oldest == {"created_at": START, **features, **counted}
    for found in (
        answer(connection, "artifacts", template="errors"),
        answer(connection, "artifacts", query_hash="AB"),
    ):
        assert [row["artifact_id"] for row in found] == ["a1"]
    assert len(answer(connection, "artifacts", since="90d")) == 3


def test_ingestion_lag(connection: duckdb.DuckDBPyConnection) -> None:
    def load(batch: str, loaded_at: datetime, *rows: Row) -> None:
        connection.executemany(
            "INSERT INTO activities.raw_events VALUES (?, ?, ?, ?)",
            [[row["activity_id"], json.dumps(row), batch, loaded_at] for row in rows],
        )

    load("b1", at(10), logged("user_asked", 8), logged("user_asked", 9))
    load("b2", at(20), logged("user_asked", 14))
    load("b2", at(20), logged("user_asked", -9 * DAY) | {"_source_system": "import"})
    load("b3", at(-2 * HOUR), logged("user_asked", -2 * HOUR - 1.5))
    load("b4", at(-3 * DAY), logged("user_asked", -4 * DAY))
    earlier, last = answer(connection, "ingestion_lag")
    assert last == {
        "bucket_start": datetime(2026, 11, 21, 4),  # noqa: DTZ001 - the columns are UTC without a zone
        "events": 3,
        "batches": 2,
        "median_s": 2.0,
        "p95_s": pytest.approx(5.6),
        "max_s": 6.0,
    }
    assert (earlier["events"], earlier["max_s"]) == (1, 1.5)
    assert [row["events"] for row in answer(connection, "ingestion_lag", imported=True)] == [1, 4]
    assert [row["events"] for row in answer(connection, "ingestion_lag", since="7d", bucket="day")] == [1, 4]
    assert [row["events"] for row in answer(connection, "ingestion_lag", since="7d", bucket="week")] == [5]


def test_each_of_ours_has_a_known_answer_here() -> None:
    assert {f"test_{name}" for name in load_templates().templates} <= globals().keys()
