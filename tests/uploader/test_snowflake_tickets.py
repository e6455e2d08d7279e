"""Tickets that the query runner runs on Snowflake."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from tests.fake_snowflake.control import FakeSnowflake
from tests.uploader.backends import emptied, ready_snowflake
from tests.uploader.query_samples import artifact, begun, cancel, ended, event, parquet, submitted
from tests.uploader.snowflake_samples import opened
from tests.uploader.uploader_samples import ORIGIN, PATIENCE_S, batch_of, wait_until

from snowledger_queue import Spool
from snowledger_uploader import OwnEvents, QueryLimits, QueryRunner

__all__ = ["ready_snowflake"]


@asynccontextmanager
async def running(spool: Spool, folder: Path, templates: Path, limits: QueryLimits) -> AsyncIterator[None]:
    """A runner on an account with 300 events."""
    async with opened(spool) as warehouse:
        await warehouse.load(batch_of(folder, [event(number).line for number in range(300)]))
        runner = QueryRunner(spool, warehouse, OwnEvents(spool), ORIGIN, limits, templates)

        async def run() -> None:
            await runner.run(check=False)

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                yield
                tasks.cancel_scope.cancel()


@pytest.fixture
def fake(ready_snowflake: FakeSnowflake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSnowflake:
    emptied(ready_snowflake, tmp_path / "home", monkeypatch)
    return ready_snowflake


async def test_a_ticket_s_query_runs_under_its_tag_and_its_result_is_kept(
    fake: FakeSnowflake, spool: Spool, tmp_path: Path, templates: Path
) -> None:
    async with running(spool, tmp_path, templates, QueryLimits()):
        found = await ended(spool, submitted(spool, "counts", templates))
    assert (found.status, found.row_count) == ("succeeded", 1)
    assert parquet(artifact(spool, found.ticket_id)) == [("cdesk.user_asked", 300)]
    [statement] = [one for one in fake.statements() if one.asynchronous]
    assert statement.query_tag == found.query_tag


async def test_a_ticket_that_is_cancelled_is_aborted_in_snowflake(
    fake: FakeSnowflake, spool: Spool, tmp_path: Path, templates: Path
) -> None:
    async with running(spool, tmp_path, templates, QueryLimits()):
        ticket_id = submitted(spool, "endless", templates)
        await begun(spool, ticket_id)
        await to_thread.run_sync(wait_until, lambda: any(one.asynchronous for one in fake.statements()), "it runs")
        cancel(spool, ticket_id)
        assert (await ended(spool, ticket_id)).status == "cancelled"
    [statement] = [one for one in fake.statements() if one.asynchronous]
    assert statement.error == 604


async def test_a_query_ends_at_its_time_limit_in_snowflake_too(
    fake: FakeSnowflake, spool: Spool, tmp_path: Path, templates: Path
) -> None:
    async with running(spool, tmp_path, templates, QueryLimits(time_limit_s=1.5)):
        found = await ended(spool, submitted(spool, "endless", templates))
    assert (found.status, found.error) == ("failed", "stopped after 1.5 s, the time limit of a query")
    assert {one.error for one in fake.statements() if one.asynchronous} <= {604, 630}
