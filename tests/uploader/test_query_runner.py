"""Tickets become results, one way or another, and every run is on record."""

import stat
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from tests.ddl.template_samples import write
from tests.uploader.query_samples import (
    COUNT,
    artifact,
    begun,
    cancel,
    ended,
    event,
    filled,
    load,
    parquet,
    queued_events,
    runs_on,
    started,
    submitted,
    ticket,
)
from tests.uploader.uploader_samples import batch_of

from snowledger_queue import Spool, timestamp

NOW = timestamp(datetime.now(UTC))


async def test_a_ticket_gets_its_result_a_sample_and_a_private_file(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates):
        done = await ended(spool, submitted(spool, "numbers", templates, params={"text": "it's"}))
    assert (done.status, done.error) == ("succeeded", None)
    assert (done.row_count, done.rows_so_far, done.truncated) == (300, 300, False)
    assert orjson.loads(done.columns or "") == [
        {"name": "number", "type": "BIGINT"},
        {"name": "text", "type": "VARCHAR"},
    ]
    assert orjson.loads(done.sample or "") == [[number, "it's"] for number in range(10)]
    file = artifact(spool, done.ticket_id)
    assert done.artifact
    assert done.bytes == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert parquet(file) == [(number, "it's") for number in range(300)]
    assert list(spool.work.glob("query-*")) == []


async def test_our_own_templates_are_served_without_a_folder(spool: Spool, path: Path, tmp_path: Path) -> None:
    await filled(path, tmp_path)
    async with started(spool, path):
        done = await ended(spool, submitted(spool, "activity_counts"))
    assert done.status == "succeeded"
    [row] = orjson.loads(done.sample or "")
    assert row[:2] == ["cdesk.user_asked", 300]
    assert row[4].endswith("Z")


async def test_each_run_is_on_record_as_the_customer_s_own_activity_under_its_tag(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates):
        done = await ended(spool, submitted(spool, "counts", templates, query_tag="cdesk_0123abcd"))
    [executed] = queued_events(spool, "cdesk.sql_executed")
    [completed] = queued_events(spool, "cdesk.sql_completed")
    [created] = queued_events(spool, "cdesk.artifact_created")
    common = {
        "ticket_id": done.ticket_id,
        "template": "counts",
        "query_hash": done.query_hash,
        "query_tag": "cdesk_0123abcd",
    }
    for found in (executed, completed, created):
        assert (found["customer"], found["_query_tag"]) == ("acme", "cdesk_0123abcd")
        assert found["feature_json"] | common == found["feature_json"]
    features = completed["feature_json"]
    assert (features["status"], features["rows"], features["bytes"]) == ("succeeded", 1, done.bytes)
    assert features["credits_estimate"] == pytest.approx(features["ms"] / 3_600_000, abs=1e-6)
    assert features["truncated"] is False
    assert created["feature_json"] == common | {
        "artifact_id": done.ticket_id,
        "format": "parquet",
        "rows": 1,
        "bytes": done.bytes,
        "path": str(artifact(spool, done.ticket_id)),
    }


async def test_the_views_of_the_warehouse_show_what_was_asked(spool: Spool, path: Path, tmp_path: Path) -> None:
    await filled(path, tmp_path)
    async with started(spool, path) as warehouse:
        first = await ended(spool, submitted(spool, "activity_counts"))
        lines = [line for found in spool.sealed_segments() for line in found.path.read_bytes().splitlines(True)]
        await warehouse.open()
        await warehouse.load(batch_of(tmp_path, lines))
        await warehouse.close()
        artifacts = await ended(spool, submitted(spool, "artifacts"))
        costs = await ended(spool, submitted(spool, "query_cost_by_tag"))
    [row] = orjson.loads(artifacts.sample or "")
    assert row[1:6] == [first.ticket_id] * 2 + ["activity_counts", first.query_hash, first.query_tag]
    [row] = orjson.loads(costs.sample or "")
    assert row[:4] == [first.query_tag, "activity_counts", 1, 0]


async def test_a_run_over_other_customers_is_on_record_as_snowledger_s_and_in_no_template_s_answer(
    spool: Spool, path: Path, tmp_path: Path
) -> None:
    await filled(path, tmp_path)
    async with started(spool, path) as warehouse:
        own = await ended(spool, submitted(spool, "activity_counts"))
        wider = await ended(spool, submitted(spool, "active_customers", customers=("acme", "beta")))
        assert (own.status, wider.status) == ("succeeded", "succeeded")
        for activity in ("cdesk.sql_executed", "cdesk.sql_completed", "cdesk.artifact_created"):
            found = {event["feature_json"]["ticket_id"]: event for event in queued_events(spool, activity)}
            assert found[own.ticket_id]["customer"] == "acme"
            assert "customer" not in found[own.ticket_id]["feature_json"]
            assert found[wider.ticket_id]["customer"] == "snowledger"
            assert found[wider.ticket_id]["feature_json"]["customer"] == "acme"
        lines = [line for found in spool.sealed_segments() for line in found.path.read_bytes().splitlines(True)]
        await warehouse.open()
        await warehouse.load(batch_of(tmp_path, lines))
        await warehouse.close()
        asked: list[tuple[str, dict[str, Any]]] = [
            ("artifacts", {}),
            ("query_cost_by_tag", {}),
            ("recent_events", {"activity": "cdesk.sql_executed"}),
            ("recent_events", {"activity": "cdesk.artifact_created"}),
        ]
        for template, params in asked:
            sample = (await ended(spool, submitted(spool, template, params=params))).sample or ""
            assert own.query_tag in sample
            assert [one for one in (wider.ticket_id, wider.query_tag, wider.template) if one in sample] == []
        for run, rows in ((own, 3), (wider, 0)):
            params = {"query_hash": run.query_hash}
            assert (await ended(spool, submitted(spool, "provenance", params=params))).row_count == rows


async def test_what_is_asked_is_begun_within_a_tenth_of_a_second(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    waits = []
    async with started(spool, path, templates):
        for _ in range(9):
            done = await ended(spool, submitted(spool, "counts", templates))
            begin = datetime.fromisoformat(done.started_at or "")
            waits.append((begin - datetime.fromisoformat(done.submitted_at)).total_seconds())
    assert sorted(waits)[4] < 0.1


async def test_no_more_run_at_once_than_may(spool: Spool, path: Path, tmp_path: Path, templates: Path) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates, concurrency=2):
        endless = [submitted(spool, "endless", templates, byte_cap=cap) for cap in (1_000, 2_000, 3_000)]
        await begun(spool, endless[0])
        await begun(spool, endless[1])
        await anyio.sleep(0.3)
        third = ticket(spool, endless[2])
        assert (third.status, third.position) == ("queued", 0)
        cancel(spool, endless[0])
        await begun(spool, endless[2])


async def test_a_query_that_is_cancelled_stops_within_a_second(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates):
        asked = await runs_on(spool, templates)
        began = time.monotonic()
        cancel(spool, asked)
        done = await ended(spool, asked)
        assert time.monotonic() - began < 1
        assert (await ended(spool, submitted(spool, "counts", templates))).status == "succeeded"
    assert (done.status, done.error, done.artifact) == ("cancelled", None, False)
    assert queued_events(spool, "cdesk.sql_completed")[0]["feature_json"]["status"] == "cancelled"


async def test_a_query_ends_at_its_time_limit_and_says_so(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates, time_limit_s=0.7):
        done = await ended(spool, submitted(spool, "endless", templates))
        assert (await ended(spool, submitted(spool, "counts", templates))).status == "succeeded"
    assert (done.status, done.error) == ("failed", "stopped after 0.7 s, the time limit of a query")
    [first, _] = queued_events(spool, "cdesk.sql_completed")
    assert first["feature_json"]["error"] == done.error


@pytest.mark.parametrize(
    ("limits", "asked", "rows"),
    [({"row_cap": 7}, {}, 7), ({}, {"byte_cap": 2_000}, None), ({"byte_cap": 2_000}, {"byte_cap": 10**9}, None)],
)
async def test_caps_cut_the_result_off_and_say_so(
    spool: Spool,
    path: Path,
    tmp_path: Path,
    templates: Path,
    limits: dict[str, Any],
    asked: dict[str, Any],
    rows: int | None,
) -> None:
    await filled(path, tmp_path, 2_000)
    async with started(spool, path, templates, **limits):
        done = await ended(spool, submitted(spool, "numbers", templates, **asked))
    assert (done.status, done.truncated) == ("succeeded", True)
    kept = parquet(artifact(spool, done.ticket_id))
    assert len(kept) == done.row_count == (rows or done.row_count)
    assert 0 < len(kept) < 2_000
    assert [number for number, _ in kept] == list(range(len(kept)))
    assert rows or (done.bytes or 0) <= 2_000


async def test_a_template_s_own_row_limit_counts(spool: Spool, path: Path, tmp_path: Path, templates: Path) -> None:
    write(templates, "SELECT ts FROM events WHERE customer = $customer", "row_limit = 5\n", name="five")
    await filled(path, tmp_path)
    async with started(spool, path, templates):
        done = await ended(spool, submitted(spool, "five", templates))
    assert (done.row_count, done.truncated) == (5, True)


async def test_nobody_sees_another_customer_s_events(spool: Spool, path: Path, tmp_path: Path, templates: Path) -> None:
    await load(path, tmp_path, [event(1), event(2), event(1, "beta")])
    async with started(spool, path, templates):
        done = await ended(spool, submitted(spool, "counts", templates))
    assert orjson.loads(done.sample or "") == [["cdesk.user_asked", 2]]


async def test_an_error_of_the_query_is_the_ticket_s(spool: Spool, path: Path, tmp_path: Path, templates: Path) -> None:
    write(templates, "SELECT nosuch FROM events WHERE customer = $customer", name="wrong")
    await filled(path, tmp_path)
    async with started(spool, path, templates):
        done = await ended(spool, submitted(spool, "wrong", templates))
    assert done.status == "failed"
    assert "nosuch" in (done.error or "")
    assert list(spool.work.glob("query-*")) == []


async def test_an_unknown_template_fails_with_that_reason(spool: Spool, path: Path, templates: Path) -> None:
    async with started(spool, path):
        done = await ended(spool, submitted(spool, "counts", templates))
    assert (done.status, done.error) == ("failed", "the template counts is not known to the uploader")


async def test_a_template_that_changed_since_it_was_asked_is_not_run(spool: Spool, path: Path, templates: Path) -> None:
    asked = submitted(spool, "counts", templates)
    write(templates, f"{COUNT} LIMIT 5", name="counts")
    async with started(spool, path, templates):
        done = await ended(spool, asked)
    assert done.status == "failed"
    assert "changed" in (done.error or "")


async def test_a_template_that_is_new_since_the_start_is_found(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates):
        await ended(spool, submitted(spool, "counts", templates))
        write(templates, "SELECT count(*) AS n FROM events WHERE customer = $customer", name="late")
        done = await ended(spool, submitted(spool, "late", templates))
    assert orjson.loads(done.sample or "") == [[300]]
