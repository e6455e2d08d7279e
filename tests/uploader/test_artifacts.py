"""Results are kept for a time and up to a size; what is nobody's goes."""

from contextlib import closing
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from tests.uploader.query_samples import (
    ago,
    artifact,
    ended,
    event,
    load,
    started,
    submitted,
    ticket,
    write_templates,
)
from tests.uploader.uploader_samples import wait_until

from snowledger_queue import QueryResult, RunnerTickets, Spool, Tickets
from snowledger_uploader import Artifacts

DAY = 24


def kept(spool: Spool, name: str, hours_ago: float, size: int = 1_000) -> str:
    """A query that succeeded so long ago, and its file."""
    ticket_id = submitted(spool, name, now=ago(hours=hours_ago + 1))
    with closing(RunnerTickets(spool)) as tickets:
        claimed = tickets.claim(ago(hours=hours_ago))
        assert claimed is not None
        assert claimed.ticket_id == ticket_id
        result = QueryResult("[]", "[]", 0, size, truncated=False, artifact=True)
        tickets.succeed(ticket_id, result, ago(hours=hours_ago))
    artifact(spool, ticket_id).write_bytes(b"x" * size)
    return ticket_id


async def pruned(spool: Spool, max_age_days: float = 90, max_bytes: int = 10**9) -> None:
    with closing(Tickets(spool)) as tickets, anyio.move_on_after(0.5):
        await Artifacts(spool, tickets, max_age_days, max_bytes).prune_at_times()


def files(spool: Spool) -> set[str]:
    return {path.stem for path in spool.artifacts.iterdir()}


async def test_what_is_old_goes_with_its_ticket(spool: Spool) -> None:
    old = kept(spool, "activity_counts", 91 * DAY)
    young = kept(spool, "recent_events", 89 * DAY)
    await pruned(spool)
    assert files(spool) == {young}
    with closing(Tickets(spool)) as tickets:
        assert tickets.get(old, "acme") is None
        assert tickets.get(young, "acme") is not None


async def test_beyond_the_size_the_oldest_files_go_and_their_tickets_stay(spool: Spool) -> None:
    oldest, middle, newest = (
        kept(spool, name, hours) for name, hours in (("activity_counts", 30), ("recent_events", 20), ("errors", 10))
    )
    await pruned(spool, max_bytes=2_500)
    assert files(spool) == {middle, newest}
    assert [ticket(spool, one).artifact for one in (oldest, middle, newest)] == [False, True, True]


async def test_a_file_of_no_ticket_goes_and_another_program_s_stays(spool: Spool) -> None:
    kept_id = kept(spool, "activity_counts", 1)
    (spool.artifacts / f"{'0' * 32}.parquet").write_bytes(b"of a crash")
    (spool.artifacts / "notes.txt").write_text("mine")
    await pruned(spool)
    assert files(spool) == {kept_id, "notes"}


async def test_what_cannot_be_deleted_is_logged_and_keeps_nothing_from_going(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    stays = spool.artifacts / f"{'0' * 32}.parquet"
    stays.mkdir()
    kept(spool, "activity_counts", 91 * DAY)
    await pruned(spool)
    assert files(spool) == {"0" * 32}
    assert f"cannot delete {stays}" in caplog.text


async def test_a_runner_prunes_at_its_start(spool: Spool, tmp_path: Path) -> None:
    kept(spool, "activity_counts", 91 * DAY)
    async with started(spool, tmp_path / "warehouse.duckdb"):
        await to_thread.run_sync(wait_until, lambda: files(spool) == set())


async def test_much_that_is_new_is_pruned_before_the_hour_is_over(spool: Spool, tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    templates = write_templates(tmp_path / "templates")
    await load(path, tmp_path, [event(number) for number in range(300)])
    async with started(spool, path, templates, artifact_max_bytes=6_000):
        for number in range(8):
            await ended(spool, submitted(spool, "numbers", templates, params={"text": str(number)}))
        await to_thread.run_sync(wait_until, lambda: sum(p.stat().st_size for p in spool.artifacts.iterdir()) <= 6_000)
    assert 0 < len(files(spool)) < 8
