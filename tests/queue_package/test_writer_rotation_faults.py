"""The writer when there is no room for another segment: it writes on in the one it has, and says so."""

import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.queue_package.fault_filesystem import FaultFilesystem
from tests.queue_package.queue_process import QueueProcess
from tests.queue_package.queue_samples import queued_lines, sample_events
from tests.torture.disks import small_disk

from snowledger_queue import QueueWriteError, RotationPolicy, Spool, open_spool, open_writer, verify_segment

EACH_ITS_OWN = RotationPolicy(max_bytes=1, max_age_s=600)


async def once(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a folder has no event
            await asyncio.sleep(0.002)


async def test_without_room_for_a_new_segment_the_old_one_is_kept_and_it_is_said_once(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FaultFilesystem()
    events = sample_events(5)
    async with open_writer(replace(spool, filesystem=disk), EACH_ITS_OWN) as writer:
        await writer.append(events[:1])
        disk.inject("create", *[OSError(errno.ENOSPC, "No space left on device")] * 2)
        for event in events[1:]:
            await writer.append([event])
    assert [segment.events for segment in spool.sealed_segments()] == [3, 1, 1]
    assert queued_lines(spool) == [event.line for event in events]
    assert caplog.text.count("No space left on device; writing on in the old one") == 1


async def test_without_room_for_a_new_segment_an_idle_writer_keeps_the_old_one_until_there_is(spool: Spool) -> None:
    disk = FaultFilesystem()
    events = sample_events(3)
    full = OSError(errno.ENOSPC, "No space left on device")
    async with open_writer(replace(spool, filesystem=disk), RotationPolicy(max_age_s=0.05)) as writer:
        await writer.append(events[:1])
        for event in events[1:]:
            disk.inject("create", full, full)
            await once(lambda: disk.left("create") <= 1)
            assert len(spool.active_segments()) == 1
            await writer.append([event])
        await once(lambda: not spool.active_segments())
        assert sum(segment.events for segment in spool.sealed_segments()) == 3
    assert queued_lines(spool) == [event.line for event in events]


async def test_when_the_inodes_of_a_disk_run_out_appends_go_on_and_nothing_is_lost(tmp_path: Path) -> None:
    events = sample_events(30)
    with small_disk(tmp_path / "disk", "size=4m", "nr_inodes=20") as disk:
        spool = open_spool(disk / "spool")
        async with open_writer(spool, EACH_ITS_OWN) as writer:
            for event in events:
                await writer.append([event])
            with pytest.raises(OSError, match="No space left"):
                (disk / "another").touch()
            drained = spool.sealed_segments()[0]
            lines = [drained.path.read_bytes()]
            drained.path.unlink()  # as the uploader does, which makes room
            for event in sample_events(2, start=30):
                await writer.append([event])
        lines += queued_lines(spool)
        assert lines == [event.line for event in sample_events(32)]
        grown, last = (segment.events for segment in spool.sealed_segments()[-2:])
        assert grown > 10
        assert last == 2  # the one inode was taken again


async def test_with_no_inode_for_a_first_segment_appends_fail_until_there_is_one(tmp_path: Path) -> None:
    events = sample_events(2)
    with small_disk(tmp_path / "disk", "size=4m", "nr_inodes=20") as disk:
        spool = open_spool(disk / "spool")
        async with open_writer(spool) as writer:
            taken = [disk / str(number) for number in range(os.statvfs(disk).f_favail)]
            for path in taken:
                path.touch()
            with pytest.raises(QueueWriteError, match="cannot create a segment: No space left") as caught:
                await writer.append(events[:1])
            assert caught.value.transient
            taken[0].unlink()
            await writer.append(events[1:])
        assert queued_lines(spool) == [events[1].line]


def test_without_file_descriptors_appends_go_on_in_the_segment_that_is_open(
    spool: Spool, start: Callable[..., QueueProcess]
) -> None:
    acked = start("descriptors", spool.home).acked()
    assert len(acked) == 9
    assert [line[16:48].decode() for line in queued_lines(spool)] == acked
    assert [segment.events for segment in spool.sealed_segments()] == [6, 1, 1, 1]
    assert [verify_segment(spool, segment).damaged for segment in spool.sealed_segments()] == [()] * 4
