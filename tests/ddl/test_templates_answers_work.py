"""Templates about insights, queries and loads give the known answers to known streams, on either warehouse."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from tests.ddl import test_templates_answers as others
from tests.ddl.ddl_samples import START, Row, atom, stamp
from tests.ddl.ledgers import Ledger, insert, ledger, snowflake_account
from tests.ddl.template_samples import DAY, HOUR, answer, at, logged

from snowledger_ddl import load_templates

__all__ = ["ledger", "snowflake_account"]


def insight(seconds: float, **features: Any) -> Row:
    return atom(**features) | {"ts": stamp(seconds)}


def test_insights_by_subject(ledger: Ledger) -> None:
    newest = insight(5, subject="product/pro", metric="mrr", value=3)
    insert(
        ledger,
        insight(1, subject="product/pro", metric="mrr", value=1),
        newest,
        insight(9, subject="product/pro", metric="mrr", value=9, valid_from="2027-01-01"),
        insight(1, subject="product/pro", metric="users", value={"n": 1}, verified=False),
        insight(1, subject="product/team", metric="mrr", value=7),
        insight(2, subject="product/team", metric="mrr", value=8, valid_to="2026-01-01"),
        insight(2, subject="region/emea", metric=5),
        insight(2, subject="customer/x", metric="mrr"),
    )
    first, second = answer(ledger, "insights_by_subject", subject_prefix="product/")
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
    every = answer(ledger, "insights_by_subject")
    assert [row["subject"] for row in every] == ["customer/x", "product/pro", "product/pro"]
    assert len(answer(ledger, "insights_by_subject", metric="mrr")) == 2
    assert len(answer(ledger, "insights_by_subject", verified_only=True)) == 2


def test_insight_history(ledger: Ledger) -> None:
    insert(
        ledger,
        insight(1, subject="product/pro", metric="mrr", value=1, valid_to="2026-12-01"),
        insight(5, subject="product/pro", metric="mrr", value=3, verified=False),
        insight(3, subject="product/pro", metric="users", value=2, valid_from="soon"),
        insight(1, subject="product/pro2", metric="mrr"),
    )
    rows = answer(ledger, "insight_history", subject="product/pro")
    assert [(row["recorded_at"], row["metric"], row["value"], row["is_quarantined"]) for row in rows] == [
        (at(5), "mrr", "3", False),
        (at(3), "users", "2", True),
        (at(1), "mrr", "1", False),
    ]
    assert [row["verified"] for row in rows] == [False, True, True]
    assert len(answer(ledger, "insight_history", subject="product/pro", metric="mrr")) == 2
    assert answer(ledger, "insight_history", subject="product/") == []


def test_provenance(ledger: Ledger) -> None:
    of, other = "ab" * 32, "cd" * 32
    insert(
        ledger,
        logged("sql_executed", 0, query_hash=of, template="errors"),
        logged("sql_completed", 1, query_hash=of, template="errors", status="succeeded"),
        logged("artifact_created", 2, query_hash=of, template="errors") | {"_source_system": "snowledger"},
        insight(3, subject="product/pro", metric="mrr", value=1, provenance_query_hash=of),
        insight(3, provenance_query_hash=other),
        logged("sql_executed", 0, query_hash=other),
        logged("tool_called", 0, query_hash=of),
    )
    rows = answer(ledger, "provenance", query_hash=of.upper())
    assert [row["activity"].removeprefix("cdesk.") for row in rows] == [
        "sql_executed",
        "sql_completed",
        "artifact_created",
        "insight_recorded",
    ]
    assert [row["template"] for row in rows] == ["errors"] * 3 + [None]
    assert [row["status"] for row in rows] == [None, "succeeded", None, None]
    assert [row["source"] == "snowledger" for row in rows] == [False, False, True, False]
    assert (rows[3]["subject"], rows[3]["metric"], rows[3]["value"]) == ("product/pro", "mrr", "1")


def test_tool_latency(ledger: Ledger) -> None:
    insert(
        ledger,
        *(logged("tool_called", tool="search", latency_ms=ms, ok=True) for ms in (10, 20, 30)),
        logged("tool_called", tool="search", latency_ms=400.5, ok=False),
        logged("tool_called", tool="schema", latency_ms=5, ok=True),
        # What tools log wrongly is a call all the same.
        *(logged("tool_called", tool="odd", latency_ms=value) for value in (None, "fast", "nan", -1, "inf", [1])),
        logged("tool_called"),
        logged("tool_called", -30 * DAY, tool="search", latency_ms=9999),
    )
    rows = {row.pop("tool"): row for row in answer(ledger, "tool_latency")}
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
    assert [row["tool"] for row in answer(ledger, "tool_latency", tool="schema")] == ["schema"]


def test_errors(ledger: Ledger) -> None:
    slow: dict[str, Any] = {"where": "sql", "message": "Statement timed out", "retryable": True}
    insert(
        ledger,
        logged("error_encountered", 0, **slow),
        logged("error_encountered", 9, session="s2", **slow),
        logged("error_encountered", 5, **slow | {"retryable": False}),
        logged("error_encountered", 6, where="file", message="no such file"),
        logged("error_encountered", 7),
        logged("error_encountered", -30 * DAY, **slow),
    )
    rows = answer(ledger, "errors")
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
    assert len(answer(ledger, "errors", place="file")) == 1
    assert len(answer(ledger, "errors", containing="TIMED")) == 1
    assert answer(ledger, "errors", containing="%") == []


def test_query_cost_by_tag(ledger: Ledger) -> None:
    cheap: dict[str, Any] = {
        "query_tag": "cdesk_1",
        "template": "errors",
        "ms": 250,
        "rows": 5,
        "bytes": 100,
        "status": "succeeded",
    }
    insert(
        ledger,
        logged("sql_completed", **cheap, credits_estimate=0.001),
        logged("sql_completed", **cheap, credits_estimate=0.002),
        logged("sql_completed", **cheap | {"query_tag": "cdesk_2", "status": "failed", "rows": None}),
        # As other tools log it; the tag is then that of the event.
        logged("sql_completed", query_hash="ab", rows=7, ms=40),
        logged("sql_completed", ms="nan", rows="many", bytes=-5, credits_estimate="inf"),
    )
    rows = {row.pop("query_tag"): row for row in answer(ledger, "query_cost_by_tag")}
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
    by_template = answer(ledger, "query_cost_by_tag", by="template")
    assert [(row["query_tag"], row["template"], row["queries"]) for row in by_template] == [
        (None, "errors", 3),
        (None, None, 2),
    ]


def test_artifacts(ledger: Ledger) -> None:
    features: dict[str, Any] = {
        "artifact_id": "a1",
        "ticket_id": "a1",
        "template": "errors",
        "query_hash": "ab",
        "query_tag": "cdesk_1",
    }
    features |= {"format": "parquet", "rows": 12, "bytes": 3456, "path": "artifacts/a1.parquet"}
    insert(
        ledger,
        logged("artifact_created", 0, **features),
        logged("artifact_created", 5, artifact_id="a2", template="sessions"),
        logged("artifact_created", -60 * DAY, artifact_id="a3"),
    )
    newest, oldest = answer(ledger, "artifacts")
    assert newest["artifact_id"] == "a2"
    counted = {"result_rows": features.pop("rows"), "result_bytes": features.pop("bytes")}
    assert oldest == {"created_at": START, **features, **counted}
    for found in (
        answer(ledger, "artifacts", template="errors"),
        answer(ledger, "artifacts", query_hash="AB"),
    ):
        assert [row["artifact_id"] for row in found] == ["a1"]
    assert len(answer(ledger, "artifacts", since="90d")) == 3


def test_ingestion_lag(ledger: Ledger) -> None:
    def load(batch: str, loaded_at: datetime, *rows: Row) -> None:
        insert(ledger, *rows, batch=batch, loaded_at=loaded_at)

    load("b1", at(10), logged("user_asked", 8), logged("user_asked", 9))
    load("b2", at(20), logged("user_asked", 14))
    load("b2", at(20), logged("user_asked", -9 * DAY) | {"_source_system": "import"})
    load("b3", at(-2 * HOUR), logged("user_asked", -2 * HOUR - 1.5))
    load("b4", at(-3 * DAY), logged("user_asked", -4 * DAY))
    earlier, last = answer(ledger, "ingestion_lag")
    assert last == {
        "bucket_start": datetime(2026, 11, 21, 4),  # noqa: DTZ001 - the columns are UTC without a zone
        "events": 3,
        "batches": 2,
        "median_s": 2.0,
        "p95_s": pytest.approx(5.6),
        "max_s": 6.0,
    }
    assert (earlier["events"], earlier["max_s"]) == (1, 1.5)
    assert [row["events"] for row in answer(ledger, "ingestion_lag", imported=True)] == [1, 4]
    assert [row["events"] for row in answer(ledger, "ingestion_lag", since="7d", bucket="day")] == [1, 4]
    assert [row["events"] for row in answer(ledger, "ingestion_lag", since="7d", bucket="week")] == [5]


def test_each_of_ours_has_a_known_answer_here() -> None:
    assert {f"test_{name}" for name in load_templates().templates} <= globals().keys() | vars(others).keys()
