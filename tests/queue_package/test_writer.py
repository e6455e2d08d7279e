"""The writer: many appends share one flush, none is acknowledged before it, and it ends in good order."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from tests.queue_package.fault_filesystem import FaultFilesystem
from tests.queue_package.queue_samples import queued_lines, sample_event, sample_events

from snowledger_queue import (
    Event,
    QueueClosedError,
    QueueWriter,
    RotationPolicy,
    Spool,
    open_writer,
    recover,
)
from snowledger_queue._filesystem import OsFilesystem
from snowledger_queue._rotation import Rotation

SELDOM = RotationPolicy(max_age_s=600)


@pytest.fixture
def disk() -> FaultFilesystem:
    return FaultFilesystem()


@pytest.fixture
def gated(spool: Spool, disk: FaultFilesystem) -> Spool:
    return replace(spool, filesystem=disk)


async def flush_started(disk: FaultFilesystem) -> None:
    assert await asyncio.to_thread(disk.syncing.wait, 30)


async def settle() -> None:
    """Let all tasks that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def append_all(writer: QueueWriter, events: list[Event]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for event in events:
            tasks.create_task(writer.append([event]))


async def test_an_append_is_on_disk_when_it_returns(spool: Spool) -> None:
    async with open_writer(spool, SELDOM) as writer:
        for event in sample_events(3):
            await writer.append([event])
            assert queued_lines(spool)[-1] == event.line
        assert spool.statistics()[:4] == (3, len(b"".join(queued_lines(spool))), 0, 1)
    assert queued_lines(spool) == [event.line for event in sample_events(3)]


async def test_an_append_returns_only_after_the_flush(gated: Spool, disk: FaultFilesystem) -> None:
    async with open_writer(gated, SELDOM) as writer:
        disk.gate.clear()
        task = asyncio.create_task(writer.append([sample_event(1)]))
        await flush_started(disk)
        await settle()
        assert not task.done()
        disk.gate.set()
        await task


async def test_appends_that_wait_share_one_flush(gated: Spool, disk: FaultFilesystem) -> None:
    events = sample_events(101)
    async with open_writer(gated, SELDOM) as writer:
        disk.gate.clear()
        first = asyncio.create_task(writer.append(events[:1]))
        await flush_started(disk)
        rest = asyncio.create_task(append_all(writer, events[1:]))
        await settle()
        assert writer.statistics().waiting == 101
        disk.gate.set()
        await first
        await rest
        assert disk.syncs == 2
        size = sum(len(event.line) for event in events)
        assert writer.statistics() == (101, size, 2, 0, 0, 0)
    assert sorted(queued_lines(gated)) == sorted(event.line for event in events)


async def test_a_group_is_whole_and_in_order(spool: Spool) -> None:
    async with open_writer(spool, SELDOM) as writer, asyncio.TaskGroup() as tasks:
        for number in range(50):
            tasks.create_task(writer.append(sample_events(4, start=4 * number)))
    lines = queued_lines(spool)
    for number in range(50):
        start = lines.index(sample_event(4 * number).line)
        assert lines[start : start + 4] == [event.line for event in sample_events(4, start=4 * number)]
    assert len(lines) == 200


async def test_the_event_loop_runs_on_during_a_slow_flush(gated: Spool, disk: FaultFilesystem) -> None:
    async with open_writer(gated, SELDOM) as writer:
        disk.gate.clear()
        task = asyncio.create_task(writer.append([sample_event(1)]))
        await flush_started(disk)
        rang = asyncio.Event()
        asyncio.get_running_loop().call_later(0.001, rang.set)
        async with asyncio.timeout(10):
            await rang.wait()
        assert not task.done()
        disk.gate.set()
        await task


async def test_a_full_segment_is_sealed_before_the_next_append(spool: Spool) -> None:
    events = sample_events(10)
    size = len(events[0].line)
    async with open_writer(spool, RotationPolicy(max_bytes=3 * size, max_age_s=600)) as writer:
        for event in events:
            await writer.append([event])
        assert [segment.events for segment in spool.sealed_segments()] == [3, 3, 3]
        assert writer.statistics().sealed == 3
    assert [segment.events for segment in spool.sealed_segments()] == [3, 3, 3, 1]
    assert queued_lines(spool) == [event.line for event in events]


async def test_a_group_larger_than_a_segment_is_one_segment(spool: Spool) -> None:
    async with open_writer(spool, RotationPolicy(max_bytes=100)) as writer:
        await writer.append(sample_events(20))
    assert [segment.events for segment in spool.sealed_segments()] == [20]


async def test_an_old_segment_is_sealed_without_another_append(spool: Spool) -> None:
    async with open_writer(spool, RotationPolicy(max_age_s=0.05)) as writer:
        for number in range(3):
            await writer.append([sample_event(number)])
            async with asyncio.timeout(10):
                while len(spool.sealed_segments()) <= number:  # noqa: ASYNC110 - a folder has no event
                    await asyncio.sleep(0.005)
        async with asyncio.timeout(10):
            while spool.active_segments():  # noqa: ASYNC110 - the one that was made first goes when it is not needed
                await asyncio.sleep(0.005)
    assert queued_lines(spool) == [event.line for event in sample_events(3)]


async def test_while_nobody_drains_segments_last_longer_so_that_a_backlog_is_few_files(spool: Spool) -> None:
    at_once = RotationPolicy(max_age_s=0, behind=3, behind_age_s=600)
    async with open_writer(spool, at_once) as writer:
        for event in sample_events(10):
            await writer.append([event])
    assert [segment.events for segment in spool.sealed_segments()] == [1, 1, 1, 1, 6]
    assert queued_lines(spool) == [event.line for event in sample_events(10)]


def test_a_segment_that_is_kept_back_while_others_are_drained_makes_one_other_last_longer(tmp_path: Path) -> None:
    rotation = Rotation(RotationPolicy(behind=3), OsFilesystem())
    paths = [tmp_path / str(number) for number in range(8)]
    paths[0].touch()
    ages = []
    for path in paths:
        rotation.sealed(path)
        ages.append(rotation.max_age_s)
    assert ages == [1, 1, 1, 10, 1, 1, 1, 1]


async def test_an_idle_writer_leaves_no_file(spool: Spool) -> None:
    async with open_writer(spool):
        await settle()
    assert list(spool.queue.iterdir()) == []


async def test_segments_sort_by_sequence_when_the_clock_jumps_back(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([5_000_000_000_000, 1_000_000_000_000, 7_000_000_000_000])
    monkeypatch.setattr("snowledger_queue._writer.time.time_ns", lambda: next(moments) * 1_000_000)
    async with open_writer(spool, RotationPolicy(max_bytes=1, max_age_s=600)) as writer:
        for event in sample_events(3):
            await writer.append([event])
    assert [segment.name.opened_ms for segment in spool.sealed_segments()] == [
        5_000_000_000_000,
        5_000_000_000_000,
        7_000_000_000_000,
    ]
    assert queued_lines(spool) == [event.line for event in sample_events(3)]


async def test_leaving_commits_what_waits_and_seals(gated: Spool, disk: FaultFilesystem) -> None:
    async with asyncio.TaskGroup() as tasks:
        async with open_writer(gated, SELDOM) as writer:
            disk.gate.clear()
            appends = [tasks.create_task(writer.append([sample_event(0)]))]
            await flush_started(disk)
            appends += [tasks.create_task(writer.append([event])) for event in sample_events(5, start=1)]
            await settle()
            disk.gate.set()
        assert all(append.done() for append in appends)
    assert writer.statistics()[3:] == (0, 1, 0)
    assert queued_lines(gated) == [event.line for event in sample_events(6)]
    assert gated.active_segments() == []


async def test_a_closed_writer_takes_no_more(spool: Spool) -> None:
    async with open_writer(spool) as writer:
        await writer.append([sample_event(1)])
    with pytest.raises(QueueClosedError) as caught:
        await writer.append([sample_event(2)])
    assert caught.value.transient
    assert queued_lines(spool) == [sample_event(1).line]


async def test_an_append_of_nothing_returns_also_while_closing(gated: Spool, disk: FaultFilesystem) -> None:
    async with asyncio.TaskGroup() as tasks:
        async with open_writer(gated, SELDOM) as writer:
            await writer.append([])
            disk.gate.clear()
            tasks.create_task(writer.append([sample_event(1)]))
            await flush_started(disk)
            nothing = tasks.create_task(writer.append([]))
            await settle()
            disk.gate.set()
        await asyncio.wait_for(nothing, 10)


async def test_a_cancelled_append_leaves_the_others_alone(gated: Spool, disk: FaultFilesystem) -> None:
    async with open_writer(gated, SELDOM) as writer:
        disk.gate.clear()
        appends = [asyncio.create_task(writer.append([event])) for event in sample_events(3)]
        await flush_started(disk)
        appends += [asyncio.create_task(writer.append([event])) for event in sample_events(3, start=3)]
        await settle()
        appends[0].cancel()
        appends[4].cancel()
        await settle()
        assert [append.cancelled() for append in appends] == [True, False, False, False, True, False]
        assert writer.statistics().waiting == 4
        disk.gate.set()
        await asyncio.gather(*appends, return_exceptions=True)
        await writer.append([sample_event(6)])
    assert {event.line for event in sample_events(7)} - set(queued_lines(gated)) <= {
        sample_event(0).line,
        sample_event(4).line,
    }


async def test_a_cancelled_host_still_commits_and_seals(gated: Spool, disk: FaultFilesystem) -> None:
    opened = asyncio.Event()

    async def host() -> None:
        async with open_writer(gated, SELDOM) as writer:
            tasks.create_task(suppressed(writer, sample_event(1)))
            opened.set()
            await asyncio.Event().wait()

    async def suppressed(writer: QueueWriter, event: Event) -> None:
        await writer.append([event])
        acked.append(event.line)

    acked: list[bytes] = []
    disk.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        hosting = tasks.create_task(host())
        await opened.wait()
        await flush_started(disk)
        hosting.cancel()
        await settle()
        hosting.cancel()  # an impatient second one
        await settle()
        assert not hosting.done()
        disk.gate.set()
    assert acked == [sample_event(1).line] == queued_lines(gated)
    assert gated.active_segments() == []


async def test_a_host_cancelled_before_its_first_step_ends(spool: Spool) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with open_writer(spool) as writer:
            with suppress(QueueClosedError):
                await writer.append([sample_event(1)])
    assert spool.active_segments() == []
    assert recover(spool) == 0
