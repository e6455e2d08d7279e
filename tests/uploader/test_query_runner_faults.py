"""A query amid what can go wrong: locks, ends, errors, a state that is lost; its ticket ends all the same."""

import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.uploader.query_samples import (
    artifact,
    begun,
    cancel,
    ended,
    event,
    filled,
    queued_events,
    runs_on,
    seen,
    set_kill_switch,
    started,
    submitted,
    ticket,
)
from tests.uploader.test_duckdb_file import held_by_another_program
from tests.uploader.uploader_samples import batch_of, seal

from snowledger_queue import RunnerTickets, Spool, StateError, timestamp
from snowledger_uploader import Breaker, DuckDBWarehouse, QueryAnswer, WarehouseUnavailableError
from snowledger_uploader._breaker import THRESHOLD

NOW = timestamp(datetime.now(UTC))


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


async def test_while_the_warehouse_stays_away_queries_stay_queued_and_their_time_does_not_run(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    breaker = Breaker(max_pause_s=0.1)
    async with started(spool, path, templates, breaker=breaker):
        with held_by_another_program(path):
            asked = [submitted(spool, "counts", templates), submitted(spool, "numbers", templates)]
            await seen(lambda: breaker.failures > THRESHOLD + 3)  # some of them were the probe
            assert breaker.opened == 1

            def not_begun(ticket_id: str) -> bool:
                found = ticket(spool, ticket_id)
                return (found.status, found.attempts, found.started_at) == ("queued", 0, None)

            await seen(lambda: all(map(not_begun, asked)))
            assert len(queued_events(spool, "cdesk.sql_executed")) <= 2
        done = [await ended(spool, one) for one in asked]
    assert [(found.status, found.attempts) for found in done] == [("succeeded", 1)] * 2
    assert breaker.state == "closed"


async def test_the_uploader_s_end_puts_a_query_back_as_if_it_had_not_begun(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates):
        asked = await runs_on(spool, templates)
    back = ticket(spool, asked)
    assert (back.status, back.attempts, back.started_at) == ("queued", 0, None)
    assert queued_events(spool, "cdesk.sql_completed") == []
    assert list(spool.work.glob("query-*")) == []


async def test_the_kill_switch_stops_what_runs_and_loading_goes_on(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    async with started(spool, path, templates) as warehouse:
        asked = await runs_on(spool, templates)
        began = time.monotonic()
        set_kill_switch(spool, on=True, reason="the warehouse moves")
        done = await ended(spool, asked)
        assert time.monotonic() - began < 5
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


async def test_what_runs_in_a_state_that_is_put_back_is_run_again_and_what_runs_here_goes_on(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    nobodys = submitted(spool, "counts", templates)
    with closing(RunnerTickets(spool)) as other:
        assert other.claim(NOW) is not None
    async with started(spool, path, templates):
        assert (await ended(spool, nobodys)).attempts == 2
        own = submitted(spool, "endless", templates)
        await begun(spool, own)
        copy = tmp_path / "copy.db"
        with closing(sqlite3.connect(spool.state)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            target.execute(
                "UPDATE tickets SET status = 'running', attempts = 1, finished_at = NULL WHERE ticket_id = ?",
                (nobodys,),
            )
            target.commit()
            target.execute("PRAGMA journal_mode = WAL")
        copy.replace(spool.state)
        assert (await ended(spool, nobodys)).status == "succeeded"
        assert (ticket(spool, own).status, ticket(spool, own).attempts) == ("running", 1)


async def test_while_the_kill_switch_is_on_a_state_that_is_put_back_runs_nothing(
    spool: Spool, path: Path, tmp_path: Path, templates: Path
) -> None:
    await filled(path, tmp_path)
    asked = submitted(spool, "counts", templates)
    kept = tmp_path / "kept.db"
    spool.state.replace(kept)
    set_kill_switch(spool, on=True, reason="the warehouse moves")
    async with started(spool, path, templates):
        await seen(spool.state.exists)
        kept.replace(spool.state)
        done = await ended(spool, asked)
    assert (done.status, done.error) == ("cancelled", "the kill switch was turned on: the warehouse moves")


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
