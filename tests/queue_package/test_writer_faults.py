"""The writer when the disk fails: a typed error, nothing glued together, and it works again by itself."""

import asyncio
import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.queue_package.fault_filesystem import SHORT, FaultFilesystem
from tests.queue_package.queue_process import QueueProcess
from tests.queue_package.queue_samples import queued_lines, sample_event, sample_events

from snowledger_queue import (
    QueueClosedError,
    QueueWriteError,
    QueueWriter,
    RotationPolicy,
    Spool,
    UncertainWriteError,
    intact_lines,
    open_writer,
    recover,
    verify_segment,
)

Start = Callable[..., QueueProcess]

SELDOM = RotationPolicy(max_age_s=600)
FULL = OSError(errno.ENOSPC, "No space left on device")
BROKEN = OSError(errno.EIO, "Input/output error")


@pytest.fixture
def disk() -> FaultFilesystem:
    return FaultFilesystem()


@pytest.fixture
def faulty(spool: Spool, disk: FaultFilesystem) -> Spool:
    return replace(spool, filesystem=disk)


def assert_sealed(spool: Spool, lines: list[bytes]) -> None:
    """All these lines are in sealed segments, and nothing else but what was not acknowledged."""
    recover(spool)
    assert spool.active_segments() == []
    for segment in spool.sealed_segments():
        verified = verify_segment(spool, segment)
        assert (verified.damaged, verified.missing) == ((), 0)
        assert verified.events == segment.events
    assert [line for line in queued_lines(spool) if line in lines] == lines


async def test_a_disk_that_stays_full_is_said_once_and_so_is_its_end(
    faulty: Spool, disk: FaultFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_writer(faulty, SELDOM) as writer:
        disk.inject("write", *[FULL] * 9)
        for _ in range(9):
            with pytest.raises(QueueWriteError):
                await writer.append([sample_event(1)])
        await writer.append(sample_events(2))
        await writer.append(sample_events(2))
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_a_write_that_stored_a_part_is_taken_back(faulty: Spool, disk: FaultFilesystem) -> None:
    events = sample_events(4)
    async with open_writer(faulty, SELDOM) as writer:
        await writer.append(events[:1])
        disk.inject("write", SHORT, FULL)
        with pytest.raises(QueueWriteError, match="No space left") as caught:
            await writer.append(events[1:3])
        assert caught.value.transient
        assert caught.value.__cause__ is FULL
        assert queued_lines(faulty) == [events[0].line]
        assert writer.statistics()[2:5] == (1, 1, 0)
        await writer.append(events[3:])
    assert queued_lines(faulty) == [events[0].line, events[3].line]
    assert [segment.events for segment in faulty.sealed_segments()] == [2]
    assert_sealed(faulty, [events[0].line, events[3].line])


async def test_short_writes_that_go_on_are_no_failure(faulty: Spool, disk: FaultFilesystem) -> None:
    disk.inject("write", SHORT, SHORT, SHORT)
    async with open_writer(faulty, SELDOM) as writer:
        await writer.append(sample_events(3))
    assert_sealed(faulty, [event.line for event in sample_events(3)])


async def test_a_file_that_cannot_be_cut_back_is_given_up(faulty: Spool, disk: FaultFilesystem) -> None:
    events = sample_events(3)
    async with open_writer(faulty, SELDOM) as writer:
        await writer.append(events[:1])
        disk.inject("write", SHORT, FULL)
        disk.inject("truncate", BROKEN)
        await writer.append(events[1:2])  # in a new file
        await writer.append(events[2:])
        assert len(faulty.active_segments()) == 2
    assert recover(faulty) == 1
    assert_sealed(faulty, [event.line for event in events])


async def test_a_file_whose_flush_failed_is_never_written_again(faulty: Spool, disk: FaultFilesystem) -> None:
    events = sample_events(3)
    async with open_writer(faulty, SELDOM) as writer:
        await writer.append(events[:1])
        (abandoned,) = faulty.active_segments()
        disk.inject("sync", BROKEN)
        await writer.append(events[1:2])  # the same lines, with the same ids, in a new file
        before = abandoned.read_bytes()
        assert before.endswith(events[1].line)
        await writer.append(events[2:])
        assert abandoned.read_bytes() == before
        assert recover(faulty) == 1  # its lock is free at once
    assert_sealed(faulty, [events[0].line, events[1].line, events[1].line, events[2].line])


async def test_a_flush_that_fails_twice_is_not_acknowledged(faulty: Spool, disk: FaultFilesystem) -> None:
    async with open_writer(faulty, SELDOM) as writer:
        disk.inject("sync", BROKEN, BROKEN)
        with pytest.raises(UncertainWriteError, match="flush") as caught:
            await writer.append([sample_event(1)])
        assert caught.value.__cause__ is BROKEN
        assert caught.value.transient
        await writer.append([sample_event(2)])


async def test_all_who_share_a_failed_flush_are_told(faulty: Spool, disk: FaultFilesystem) -> None:
    async with open_writer(faulty, SELDOM) as writer:
        disk.gate.clear()
        first = asyncio.create_task(writer.append([sample_event(0)]))
        assert await asyncio.to_thread(disk.syncing.wait, 30)
        rest = [asyncio.create_task(writer.append([event])) for event in sample_events(5, start=1)]
        await asyncio.sleep(0)
        disk.inject("sync", *[BROKEN] * 4)
        disk.gate.set()
        answers = await asyncio.gather(first, *rest, return_exceptions=True)
        assert all(isinstance(answer, QueueWriteError) for answer in answers)
        assert len({id(answer) for answer in answers}) == 6
        assert writer.statistics()[:4] == (0, 0, 0, 2)


@pytest.mark.parametrize("call", ["create", "sync_folder"])
async def test_a_segment_that_cannot_be_created_is_tried_again(call: str, faulty: Spool, disk: FaultFilesystem) -> None:
    async with open_writer(faulty, SELDOM) as writer:
        disk.inject(call, OSError(errno.EMFILE, "Too many open files"), FULL)
        for _ in range(2):
            with pytest.raises(QueueWriteError, match="cannot create a segment"):
                await writer.append([sample_event(1)])
        await writer.append([sample_event(2)])
    assert_sealed(faulty, [sample_event(2).line])


@pytest.mark.parametrize("call", ["rename", "sync_folder"])
async def test_a_segment_that_cannot_be_sealed_is_left_for_recovery(
    call: str, faulty: Spool, disk: FaultFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_writer(faulty, SELDOM) as writer:
        await writer.append([sample_event(1)])
        disk.inject(call, BROKEN)
    assert "sealing" in caplog.text
    assert_sealed(faulty, [sample_event(1).line])


async def test_a_file_system_without_locks_is_a_write_error(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    async with open_writer(spool, SELDOM) as writer:
        with monkeypatch.context() as patch:
            patch.setattr("portalocker.portalocker.LOCKER", no_locks)
            with pytest.raises(QueueWriteError, match="No locks available"):
                await writer.append([sample_event(1)])
        await writer.append([sample_event(2)])
    assert_sealed(spool, [sample_event(2).line])


def test_a_file_closes_whatever_the_system_says(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = spool.queue / "file"
    file = spool.filesystem.create(path)
    assert file is not None
    real = os.close

    def close_and_complain(descriptor: int) -> None:
        real(descriptor)
        raise BROKEN

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", close_and_complain)
        file.close()
        file.close()
    again = spool.filesystem.claim(path)
    assert again is not None
    again.close()


async def test_when_the_commit_thread_breaks_nobody_waits_for_ever(faulty: Spool, disk: FaultFilesystem) -> None:
    opened: asyncio.Future[QueueWriter] = asyncio.get_running_loop().create_future()

    async def host() -> None:
        async with open_writer(faulty, SELDOM) as writer:
            opened.set_result(writer)
            await asyncio.Event().wait()

    hosting = asyncio.create_task(host())
    writer = await opened
    disk.gate.clear()
    disk.inject("sync", RuntimeError("a bug"))
    waiting = [asyncio.create_task(writer.append([sample_event(0)]))]
    assert await asyncio.to_thread(disk.syncing.wait, 30)
    waiting.append(asyncio.create_task(writer.append([sample_event(1)])))
    await asyncio.sleep(0)
    disk.gate.set()
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [UncertainWriteError] * 2
    with pytest.raises(ExceptionGroup) as caught:
        await hosting
    assert caught.group_contains(RuntimeError, match="a bug")
    with pytest.raises(QueueClosedError):
        await writer.append([sample_event(2)])


def test_at_the_file_size_limit_appends_fail_and_later_work_again(spool: Spool, start: Start) -> None:
    facts = list(start("limit", spool.home).facts())
    failures = [fact for fact in facts if "failed" in fact]
    assert failures == [{"failed": "QueueWriteError", "cause": errno.EFBIG}] * 3
    assert "acked" in facts[0]
    assert "acked" in facts[-1]
    acked = [name for fact in facts for name in fact.get("acked", ())]  # type: ignore[attr-defined]
    (segment,) = spool.sealed_segments()
    assert verify_segment(spool, segment).damaged == ()
    assert [line[16:48].decode() for _, line in intact_lines(spool, segment)] == acked
    assert len(acked) == 17


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_flush_that_fails_in_the_kernel_is_acknowledged_only_from_a_new_file(spool: Spool, start: Start) -> None:
    inject = "inject=fdatasync:error=EIO:when=3"
    strace = ("strace", "-f", "-qqq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", inject)
    process = start("append", spool.home, "5", "2", "1000000", under=strace)
    process.let_end()
    facts = list(process.facts())
    assert process.wait() == 0
    assert [fact.get("cause", "acked") for fact in facts] == ["acked"] * 5
    acked = [name for fact in facts for name in fact.get("acked", ())]  # type: ignore[attr-defined]
    # The file with the failed flush waits for recovery, the new one is sealed.
    assert [segment.events for segment in spool.sealed_segments()] == [6]
    assert recover(spool) == 1
    queued = [line[16:48].decode() for line in queued_lines(spool)]
    assert set(acked) <= set(queued)
    assert_sealed(spool, [])


def test_two_processes_on_one_spool_never_interleave(spool: Spool, start: Start) -> None:
    processes = [start("append", spool.home, "60", "4", "20000") for _ in range(2)]
    for process in processes:
        process.let_end()
    acked = {name for process in processes for name in process.acked()}
    assert len(acked) == 2 * 60 * 4
    assert [process.wait() for process in processes] == [0, 0]
    assert spool.active_segments() == []
    lines = queued_lines(spool)
    assert {line[16:48].decode() for line in lines} == acked
    assert len(lines) == len(acked)
    for segment in spool.sealed_segments():
        verified = verify_segment(spool, segment)
        assert (verified.events, verified.damaged) == (segment.events, ())
        writers = {line.partition(b'"_session_id":"')[2].partition(b'"')[0] for _, line in intact_lines(spool, segment)}
        assert len(writers) == 1
