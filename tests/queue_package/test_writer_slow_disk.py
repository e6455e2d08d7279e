"""The writer when the disk takes its time, or never answers: everybody is told in time, and told the truth."""

import asyncio
import time
from dataclasses import replace

import pytest
from tests.queue_package.fault_filesystem import FaultFilesystem
from tests.queue_package.queue_samples import queued_lines, sample_event, sample_events

from snowledger_queue import QueueWriteError, RotationPolicy, Spool, UncertainWriteError, open_writer, recover

SELDOM = RotationPolicy(max_age_s=600)


@pytest.fixture
def disk() -> FaultFilesystem:
    return FaultFilesystem()


@pytest.fixture
def gated(spool: Spool, disk: FaultFilesystem) -> Spool:
    return replace(spool, filesystem=disk)


async def test_who_waits_for_a_hung_disk_is_told_at_the_deadline_what_may_be_stored(
    gated: Spool, disk: FaultFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snowledger_queue._writer.ANSWER_S", 0.05)
    written, waiting, after = sample_events(3)
    async with open_writer(gated, SELDOM) as writer:
        disk.gate.clear()
        first = asyncio.create_task(writer.append([written]))
        assert await asyncio.to_thread(disk.syncing.wait, 30)
        with pytest.raises(QueueWriteError, match="has not answered") as untouched:
            await writer.append([waiting])
        with pytest.raises(UncertainWriteError, match="has not answered") as uncertain:
            await first
        assert untouched.type is QueueWriteError
        assert uncertain.value.transient
        assert untouched.value.transient
        assert writer.statistics()[3:] == (2, 0, 0)
        disk.gate.set()
        async with asyncio.timeout(10):
            await writer.append([after])
        await writer.append([written])  # the retry, with the same id
    assert queued_lines(gated) == [written.line, after.line, written.line]


async def test_a_disk_that_hangs_does_not_fill_the_memory(
    gated: Spool, disk: FaultFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snowledger_queue._writer.ANSWER_S", 0.02)
    async with open_writer(gated, SELDOM) as writer:
        disk.gate.clear()
        for event in sample_events(5):
            with pytest.raises(QueueWriteError):
                await writer.append([event])
        assert writer._forming.lines == []
        disk.gate.set()
    assert queued_lines(gated) == [sample_event(0).line]


async def test_leaving_does_not_wait_for_a_disk_that_never_answers(
    gated: Spool, disk: FaultFilesystem, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snowledger_queue._writer.LEAVE_S", 0.2)
    events = sample_events(3)
    async with open_writer(gated, SELDOM) as writer:
        await writer.append(events[:1])
        disk.gate.clear()
        appends = [asyncio.create_task(writer.append([event])) for event in events[1:]]
        await asyncio.sleep(0)
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    answers = await asyncio.gather(*appends, return_exceptions=True)
    assert [type(answer) for answer in answers] == [UncertainWriteError] * 2
    assert "left for recovery" in caplog.text
    assert len(gated.active_segments()) == 1
    disk.gate.set()
    async with asyncio.timeout(10):
        while gated.active_segments():  # noqa: ASYNC110 - the thread that was left behind ends by itself
            await asyncio.sleep(0.005)
    assert recover(gated) == 0
    assert queued_lines(gated)[0] == events[0].line
