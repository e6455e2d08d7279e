"""Tickets become results, one way or another, and every run is on record."""

import stat
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from anyio import to_thread
from tests.ddl.template_samples import write
from tests.uploader.query_samples import (
    COUNT,
    artifact,
    begun,
    cancel,
    ended,
    event,
    load,
    parquet,
    queued_events,
    set_kill_switch,
    started,
    submitted,
    ticket,
    write_templates,
)
from tests.uploader.test_duckdb_file import held_by_another_program
from tests.uploader.uploader_samples import batch_of, seal, wait_until

from snowledger_queue import RunnerTickets, Spool, StateError, timestamp
from snowledger_uploader import DuckDBWarehouse, QueryAnswer, WarehouseUnavailableError

NOW = timestamp(datetime.now(UTC))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    return write_templates(tmp_path / "templates")


async def filled(path: Path, tmp_path: Path, count: int = 300) -> None:
    await load(path, tmp_path, [event(number) for number in range(count)])


async def seen(condition: Callable[[], object]) -> None:
    await to_thread.run_sync(wait_until, condition)


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
        asked = submitted(spool, "endless", templates)
        await begun(spool, asked)
        await anyio.sleep(0.3)
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


async def test_a_locked_warehouse_is_waited_for(spool: Spool, path: Path, tmp_path: Path, templates: Path) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates):
        with held_by_another_program(path):
            asked = submitted(spool, "counts", templates)
            await begun(spool, asked)
            await anyio.sleep(0.3)
            assert ticket(spool, asked).status == "running"
        done = await ended(spool, asked)
    assert (done.status, done.attempts) == ("succeeded", 1)


async def test_a_warehouse_that_stays_locked_is_the_reason_in_the_end(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates, time_limit_s=0.7):
        with held_by_another_program(path):
            done = await ended(spool, submitted(spool, "counts", templates))
    assert done.status == "failed"
    assert "time limit" in (done.error or "")
    assert "lock" in (done.error or "")
    assert str(tmp_path) not in (done.error or "")


async def test_the_uploader_s_end_puts_a_query_back_as_if_it_had_not_begun(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates):
        asked = submitted(spool, "endless", templates)
        await begun(spool, asked)
        await anyio.sleep(0.2)
    back = ticket(spool, asked)
    assert (back.status, back.attempts, back.started_at) == ("queued", 0, None)
    assert queued_events(spool, "cdesk.sql_completed") == []
    assert list(spool.work.glob("query-*")) == []


async def test_the_kill_switch_stops_what_runs_and_loading_goes_on(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates) as warehouse:
        asked = submitted(spool, "endless", templates)
        await begun(spool, asked)
        began = time.monotonic()
        set_kill_switch(spool, on=True, reason="the warehouse moves")
        done = await ended(spool, asked)
        assert time.monotonic() - began < 1
        await warehouse.open()
        assert (await warehouse.load(batch_of(tmp_path, [event(1_000).line]))).inserted == 1
        await warehouse.close()
        set_kill_switch(spool, on=False)
        assert (await ended(spool, submitted(spool, "counts", templates))).status == "succeeded"
    assert done.status == "cancelled"
    assert "the warehouse moves" in (done.error or "")


async def test_progress_is_on_the_ticket_while_it_runs(
    spool: Spool, path: Path, monkeypatch: pytest.MonkeyPatch, templates: Path
) -> None:
    told = anyio.Event()

    async def slow(_warehouse: object, _request: object, watch: Any) -> QueryAnswer:
        watch(12_345, 4_000)
        await told.wait()
        raise WarehouseUnavailableError("gone")

    monkeypatch.setattr(DuckDBWarehouse, "query", slow)
    async with started(spool, path, templates):
        asked = submitted(spool, "counts", templates)
        await seen(lambda: ticket(spool, asked).rows_so_far == 12_345)
        assert ticket(spool, asked).status == "running"
        told.set()


async def test_an_unforeseen_error_ends_one_ticket_and_nothing_else(
    spool: Spool, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, templates: Path
) -> None:
    await filled(path, tmp_path)
    query = DuckDBWarehouse.query
    failures = [ValueError("surprise")]

    async def failing(*args: Any) -> QueryAnswer:
        if failures:
            raise failures.pop()
        return await query(*args)

    monkeypatch.setattr(DuckDBWarehouse, "query", failing)
    async with started(spool, path, templates):
        done = await ended(spool, submitted(spool, "counts", templates))
        assert (await ended(spool, submitted(spool, "counts", templates))).status == "succeeded"
    assert (done.status, done.error) == ("failed", "an error in the uploader; its log says more")


async def test_a_result_that_cannot_be_kept_is_a_reason(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates):
        spool.artifacts.rmdir()
        done = await ended(spool, submitted(spool, "counts", templates))
    assert (done.status, done.artifact) == ("failed", False)
    assert done.error == "the result cannot be kept: No such file or directory"


async def test_a_state_that_fails_when_a_query_ends_is_tried_again(
    spool: Spool, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, templates: Path
) -> None:
    await filled(path, tmp_path)
    succeed = RunnerTickets.succeed
    failures = [StateError("locked", transient=True)]

    def failing(*args: Any) -> bool:
        if failures:
            raise failures.pop()
        return succeed(*args)

    monkeypatch.setattr(RunnerTickets, "succeed", failing)
    monkeypatch.setattr("snowledger_uploader._queries.STATE_RETRY_S", 0.01)
    async with started(spool, path, templates):
        done = await ended(spool, submitted(spool, "counts", templates))
    assert done.status == "succeeded"
    assert len(queued_events(spool, "cdesk.sql_completed")) == 1


async def test_a_state_that_is_deleted_is_made_anew_and_queries_go_on(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates):
        lost = submitted(spool, "endless", templates)
        await begun(spool, lost)
        for file in spool.home.glob("state.db*"):
            file.unlink()
        await seen(spool.state.exists)
        assert (await ended(spool, submitted(spool, "counts", templates))).status == "succeeded"


async def test_a_result_whose_ticket_is_lost_leaves_no_file(
    spool: Spool, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, templates: Path
) -> None:
    await filled(path, tmp_path)
    monkeypatch.setattr(RunnerTickets, "succeed", lambda *_args: False)
    async with started(spool, path, templates):
        asked = submitted(spool, "counts", templates)
        await seen(lambda: queued_events(spool, "cdesk.artifact_created"))
        await seen(lambda: not list(spool.artifacts.iterdir()))
    assert not artifact(spool, asked).exists()


async def test_events_that_cannot_be_logged_keep_no_result_back(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates):
        seal(spool, [])  # so that the folder is there, and then is not
        for file in spool.queue.iterdir():
            file.unlink()
        spool.queue.rmdir()
        done = await ended(spool, submitted(spool, "counts", templates))
        spool.queue.mkdir(mode=0o700)
    assert done.status == "succeeded"


def test_what_a_dead_uploader_left_is_run_again_once(spool: Spool) -> None:
    asked = submitted(spool, "activity_counts")
    for expected in ("queued", "failed"):
        with closing(RunnerTickets(spool)) as dead:
            assert dead.claim(NOW) is not None
        with closing(RunnerTickets(spool)) as tickets:
            tickets.recover(NOW)
        assert ticket(spool, asked).status == expected


def test_a_query_that_is_put_back_though_it_shall_be_cancelled_is_cancelled(spool: Spool) -> None:
    asked = submitted(spool, "activity_counts")
    with closing(RunnerTickets(spool)) as tickets:
        assert tickets.claim(NOW) is not None
        cancel(spool, asked)
        assert tickets.release(asked, NOW)
        assert not tickets.release(asked, NOW)
    assert ticket(spool, asked).status == "cancelled"
    assert ticket(spool, asked).finished_at == NOW


def test_a_query_that_is_put_back_keeps_its_place(spool: Spool) -> None:
    first = submitted(spool, "activity_counts", now=NOW)
    second = submitted(spool, "recent_events", now=NOW)
    with closing(RunnerTickets(spool)) as tickets:
        assert tickets.claim(NOW) is not None
        tickets.progress(first, 5)
        tickets.release(first, NOW)
    assert [ticket(spool, one).position for one in (first, second)] == [0, 1]
    back = ticket(spool, first)
    assert (back.status, back.attempts, back.rows_so_far, back.finished_at) == ("queued", 0, 0, None)
