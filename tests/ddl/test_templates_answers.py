"""Templates about activities give the known answers to known streams, on either warehouse."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.ddl.ddl_samples import START
from tests.ddl.ledgers import Ledger, insert, ledger, snowflake_account
from tests.ddl.template_samples import DAY, HOUR, answer, at, logged

__all__ = ["ledger", "snowflake_account"]


def test_activity_counts(ledger: Ledger) -> None:
    insert(
        ledger,
        logged("user_asked", 1),
        logged("user_asked", 3, session="s2"),
        logged("user_asked", 2, session="s2"),
        logged("tool_called", 0),
        logged("user_asked", -8 * DAY),
        logged("file_read", -8 * DAY),
    )
    asked = {"activity": "cdesk.user_asked", "events": 3, "sessions": 2, "first_at": at(1), "last_at": at(3)}
    called = {"activity": "cdesk.tool_called", "events": 1, "sessions": 1, "first_at": START, "last_at": START}
    assert answer(ledger, "activity_counts") == [asked, called]
    assert answer(ledger, "activity_counts", activities=["cdesk.tool_called", "cdesk.x"]) == [called]
    assert [row["events"] for row in answer(ledger, "activity_counts", since="30d")] == [4, 1, 1]


def test_activity_over_time(ledger: Ledger) -> None:
    insert(
        ledger,
        logged("user_asked", 0),
        logged("tool_called", 60, session="s2"),
        logged("user_asked", -DAY),
        logged("user_asked", -6 * DAY),
        logged("user_asked", -60 * DAY),
    )
    day = datetime(2026, 11, 21)  # noqa: DTZ001 - the columns are UTC without a zone
    assert answer(ledger, "activity_over_time") == [
        {"bucket_start": day - timedelta(days=6), "events": 1, "sessions": 1},
        {"bucket_start": day - timedelta(days=1), "events": 1, "sessions": 1},
        {"bucket_start": day, "events": 2, "sessions": 2},
    ]

    def starts(**params: Any) -> list[tuple[datetime, int]]:
        rows = answer(ledger, "activity_over_time", **params)
        return [(row["bucket_start"], row["events"]) for row in rows]

    assert starts(bucket="hour", activity="cdesk.tool_called") == [(day + timedelta(hours=4), 1)]
    monday = day - timedelta(days=5)
    assert starts(bucket="week") == [(monday - timedelta(days=7), 1), (monday, 3)]
    assert starts(bucket="month", since="90d") == [(day.replace(month=9, day=1), 1), (day.replace(day=1), 4)]


def test_recent_events(ledger: Ledger) -> None:
    tagged = logged("tool_called", 2, session="s2", tool="search") | {"_query_tag": "cdesk_99999999"}
    linked = logged("file_read", 1) | {"link": "https://example.org/x", "revenue_impact": 2.5}
    insert(ledger, logged("user_asked", 0), linked, tagged, logged("user_asked", -2 * DAY))
    rows = answer(ledger, "recent_events")
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
        answer(ledger, "recent_events", **params)
        for params in (
            {"activity": "cdesk.file_read"},
            {"session_id": "s2"},
            {"query_tag": "cdesk_99999999"},
            {"limit": 1},
        )
    ]
    assert [[row["ts"] for row in one] for one in found] == [[at(1)], [at(2)], [at(2)], [at(2)]]
    assert len(answer(ledger, "recent_events", since="7d")) == 4


def test_active_customers(ledger: Ledger) -> None:
    insert(
        ledger,
        logged("user_asked", 0),
        logged("user_asked", -DAY, session="s2"),
        logged("user_asked", -DAY + 5, session="s2"),
        logged("user_asked", 5, customer="beta"),
        logged("user_asked", -40 * DAY, customer="gamma"),
    )
    every = ["acme", "beta", "gamma", "delta"]
    acme = {"customer": "acme", "events": 3, "sessions": 2, "active_days": 2, "first_at": at(-DAY), "last_at": START}
    beta = {"customer": "beta", "events": 1, "sessions": 1, "active_days": 1, "first_at": at(5), "last_at": at(5)}
    assert answer(ledger, "active_customers", customers=every) == [acme, beta]
    assert answer(ledger, "active_customers", customers=every, min_events=2) == [acme]
    assert len(answer(ledger, "active_customers", customers=every, since="60d")) == 3


def test_sessions(ledger: Ledger) -> None:
    insert(
        ledger,
        logged("session_started", 0),
        *(logged(name, 1) for name in ("user_asked", "tool_called", "tool_called", "sql_executed")),
        *(logged(name, 2.5) for name in ("insight_recorded", "error_encountered")),
        logged("user_asked", 9, session="s2"),
        logged("user_asked", 9) | {"_session_id": None},
    )
    second, first = answer(ledger, "sessions")
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
    assert [row["session_id"] for row in answer(ledger, "sessions", min_events=2)] == ["s1"]


def test_an_event_that_was_sampled_counts_for_those_that_were_not_kept(ledger: Ledger) -> None:
    insert(
        ledger,
        *(logged("tool_called", second, tool="search", ok=True) | {"_sample_rate": 0.1} for second in (1, 2)),
        logged("tool_called", 3, tool="search", ok=False),
        logged("user_asked"),
    )
    assert [row["events"] for row in answer(ledger, "activity_counts")] == [21, 1]
    assert [row["events"] for row in answer(ledger, "activity_over_time")] == [22]
    assert [row["events"] for row in answer(ledger, "active_customers", min_events=22)] == [22]
    assert [(row["events"], row["tool_calls"]) for row in answer(ledger, "sessions", min_events=22)] == [(22, 21)]
    [tool] = answer(ledger, "tool_latency")
    assert (tool["calls"], tool["failed"], float(tool["failed_share"])) == (21, 1, 0.0476)


STEPS: dict[str, Any] = {"step_1": "cdesk.a", "step_2": "cdesk.b", "step_3": "cdesk.c", "step_4": "cdesk.d"}


def funnel(ledger: Ledger, **params: Any) -> list[tuple[Any, ...]]:
    rows = answer(ledger, "funnel", customers=["acme", "beta"], **STEPS | params)
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [(row["reached"], row["share_of_first"], row["share_of_previous"]) for row in rows]


def test_funnel(ledger: Ledger) -> None:
    insert(
        ledger,
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
    assert funnel(ledger) == [(5, 1.0, None), (4, 0.8, 0.8), (1, 0.2, 0.25), (1, 0.2, 1.0)]
    assert [reached for reached, *_ in funnel(ledger, within="1h")] == [5, 3, 1, 1]
    assert [reached for reached, *_ in funnel(ledger, per="customer")] == [2, 2, 1, 1]
    assert len(funnel(ledger, step_4="")) == 3
    assert len(funnel(ledger, step_3="")) == 2
    assert funnel(ledger, step_1="cdesk.none") == [(0, None, None)] * 4
    rows = answer(ledger, "funnel", customers=["acme"], **STEPS)
    assert [row["activity"] for row in rows] == list(STEPS.values())
    assert [row["median_seconds_from_first"] for row in rows] == [0, 2, 4, 5]


def test_a_funnel_of_one_activity_twice_needs_two_events(ledger: Ledger) -> None:
    insert(ledger, logged("a", 0), logged("a", 1), logged("a", 0, session="s2"))
    assert [reached for reached, *_ in funnel(ledger, step_2="cdesk.a", step_3="", step_4="")] == [2, 1]


def test_retention(ledger: Ledger) -> None:
    week = 7 * DAY
    insert(
        ledger,
        *(logged("user_asked", -3 * week, customer=name) for name in ("acme", "beta")),
        *(logged("user_asked", -week, customer=name) for name in ("acme", "acme", "gamma")),
        logged("tool_called", 0),
        logged("user_asked", -20 * week, customer="delta"),
        logged("user_asked", 0, customer="delta"),
    )
    every = ["acme", "beta", "gamma", "delta"]

    def cohorts(**params: Any) -> list[tuple[Any, ...]]:
        return [tuple(row.values())[1:] for row in answer(ledger, "retention", customers=every, **params)]

    assert cohorts() == [(0, 2, 2, 1.0), (2, 1, 2, 0.5), (3, 1, 2, 0.5), (0, 1, 1, 1.0)]
    assert cohorts(activity="cdesk.user_asked") == [(0, 2, 2, 1.0), (2, 1, 2, 0.5), (0, 1, 1, 1.0)]
    assert [row[0] for row in cohorts(bucket="day")] == [0, 14, 21, 0]
    assert (20, 1, 1, 1.0) in cohorts(since="365d")
    assert (5, 1, 1, 1.0) in cohorts(since="365d", bucket="month") or (4, 1, 1, 1.0) in cohorts(
        since="365d", bucket="month"
    )
    first = answer(ledger, "retention", customers=every)[0]
    assert first["cohort_start"] == datetime(2026, 10, 26)  # noqa: DTZ001 - a Monday, in UTC


def test_time_between(ledger: Ledger) -> None:
    insert(
        ledger,
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
    assert answer(ledger, "time_between", within="10m") == [
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
    [row] = answer(ledger, "time_between", per="customer")
    assert (row["begun"], row["ended"], row["max_seconds"]) == (6, 6, 5.0)
    [row] = answer(ledger, "time_between", from_activity="cdesk.user_asked", to_activity="cdesk.user_asked")
    assert (row["begun"], row["ended"]) == (5, 2)
