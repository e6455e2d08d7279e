"""What a dead writer left is sealed without losing a complete line; whatever else lies there is left alone."""

import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import orjson
import pytest
from tests.queue_package.queue_process import QueueProcess
from tests.queue_package.queue_samples import leave_segment, queued_lines, sample_event, sample_events

from snowledger_queue import (
    QueueWriteError,
    SegmentName,
    Spool,
    UnsafeFileError,
    intact_lines,
    recover,
    verify_segment,
)
from snowledger_queue import _platform as platform
from snowledger_queue._segment import ActiveSegment

Start = Callable[..., QueueProcess]

NAME = SegmentName(1_763_698_847_123, "0123456789ab", 1, None)


def queued_ids(spool: Spool) -> set[str]:
    """The ids of all intact lines of the sealed segments, none of which may be damaged."""
    found = set()
    for segment in spool.sealed_segments():
        verified = verify_segment(spool, segment)
        assert (verified.damaged, verified.missing) == ((), 0)
        found |= {orjson.loads(line)["activity_id"] for _, line in intact_lines(spool, segment)}
    return found


def test_a_tail_torn_at_any_byte_is_cut_and_kept_aside(spool: Spool) -> None:
    lines = [event.line for event in sample_events(3)]
    whole = b"".join(lines)
    for cut in range(len(whole) - len(lines[-1]), len(whole) + 1):
        leave_segment(spool, whole[:cut])
        complete = 3 if cut == len(whole) else 2
        assert recover(spool) == 1
        (segment,) = spool.sealed_segments()
        verified = verify_segment(spool, segment)
        assert (segment.events, verified.events, verified.damaged) == (complete, complete, ())
        assert queued_lines(spool) == lines[:complete]
        tail = whole[len(b"".join(lines[:complete])) : cut]
        torn = [path.read_bytes() for path in spool.torn.iterdir()]
        assert torn == ([tail] if tail else [])
        assert spool.statistics().torn_tails == len(torn)
        segment.path.unlink()
        for path in spool.torn.iterdir():
            path.unlink()


@pytest.mark.parametrize("zeros", [1, 511, 4096])
def test_a_zero_filled_tail_is_torn(zeros: int, spool: Spool) -> None:
    lines = [event.line for event in sample_events(2)]
    leave_segment(spool, b"".join(lines) + bytes(zeros))
    assert recover(spool) == 1
    assert queued_lines(spool) == lines
    assert [path.read_bytes() for path in spool.torn.iterdir()] == [bytes(zeros)]


def test_an_empty_segment_is_removed(spool: Spool) -> None:
    leave_segment(spool, b"")
    assert recover(spool) == 0
    assert list(spool.queue.iterdir()) == []


def test_a_segment_of_a_torn_line_alone_is_kept_aside(spool: Spool) -> None:
    leave_segment(spool, b'{"activity_id":"0')
    assert recover(spool) == 0
    assert list(spool.queue.iterdir()) == []
    assert [path.read_bytes() for path in spool.torn.iterdir()] == [b'{"activity_id":"0']


def test_a_tail_that_cannot_be_kept_aside_is_not_cut(spool: Spool) -> None:
    path = leave_segment(spool, sample_event(1).line + b"torn")
    shutil.rmtree(spool.torn)
    assert recover(spool) == 0
    assert path.read_bytes() == sample_event(1).line + b"torn"
    spool.torn.mkdir()
    assert recover(spool) == 1


def test_recovering_again_changes_nothing(spool: Spool) -> None:
    leave_segment(spool, sample_event(1).line + b"torn")
    assert recover(spool) == 1
    before = {path: path.read_bytes() for path in spool.home.rglob("*") if path.is_file()}
    assert recover(spool) == 0
    assert {path: path.read_bytes() for path in spool.home.rglob("*") if path.is_file()} == before


def test_a_line_damaged_before_the_tail_is_left_for_the_reader(spool: Spool) -> None:
    lines = [event.line for event in sample_events(3)]
    leave_segment(spool, lines[0] + lines[1].replace(b"acme", b"acne") + lines[2] + lines[0][:50])
    assert recover(spool) == 1
    (segment,) = spool.sealed_segments()
    verified = verify_segment(spool, segment)
    assert (segment.events, verified.events, verified.missing) == (3, 2, 0)
    assert [found.offset for found in verified.damaged] == [len(lines[0])]


def test_a_live_writer_is_left_alone(spool: Spool, start: Start) -> None:
    process = start("append", spool.home, "2", "3", "1000000")
    acked = {name for _ in range(2) for name in process.next()["acked"]}  # type: ignore[attr-defined]
    assert recover(spool) == 0
    assert len(spool.active_segments()) == 1
    assert process.end() == 0
    assert recover(spool) == 0
    assert queued_ids(spool) == acked


def test_what_a_killed_writer_acknowledged_is_recovered(spool: Spool, start: Start) -> None:
    acked: set[str] = set()
    processes = [start("append", spool.home, "100000", "7", "20000") for _ in range(3)]
    for number, process in enumerate(processes):
        for fact, _ in zip(process.facts(), range(20 + 10 * number), strict=False):
            acked |= set(fact["acked"])  # type: ignore[call-overload]
        process.kill()
        acked |= set(process.acked())
    recover(spool)
    assert spool.active_segments() == []
    assert acked <= queued_ids(spool)
    assert len(acked) >= 7 * 20


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(
    "call", ["write:when=3", "fdatasync:when=3", "rename:when=1", "rename:when=2", "fsync:when=2", "fsync:when=3"]
)
def test_killed_in_any_system_call_a_writer_loses_nothing_acknowledged(call: str, spool: Spool, start: Start) -> None:
    name, when = call.split(":")
    inject = f"inject={name}:signal=SIGKILL:{when}"
    strace = ("strace", "-f", "-qqq", "-o", "/dev/null", "-e", f"trace={name}", "-e", inject)
    process = start("append", spool.home, "20", "5", "3000", under=strace)
    process.let_end()
    acked = set(process.acked())
    assert process.wait() == -signal.SIGKILL
    recover(spool)
    assert acked <= queued_ids(spool)
    assert len(acked) < 100


def test_many_recoverers_at_once_seal_each_segment_once(spool: Spool) -> None:
    lines = [event.line for event in sample_events(60)]
    for number, line in enumerate(lines):
        leave_segment(spool, line + b"torn", sequence=number)
    together = Barrier(4)

    def recover_with_others(_: int) -> int:
        together.wait()
        return recover(spool)

    with ThreadPoolExecutor(4) as threads:
        counts = list(threads.map(recover_with_others, range(4)))
    assert sum(counts) == 60
    assert queued_lines(spool) == lines
    assert len(list(spool.torn.iterdir())) == 60


def plant_symlink(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def plant_hard_link(path: Path, outside: Path) -> None:
    path.hardlink_to(outside)


def plant_fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def plant_folder(path: Path, _: Path) -> None:
    path.mkdir()


def plant_dangling_symlink(path: Path, outside: Path) -> None:
    path.symlink_to(outside.with_name("nowhere"))


@pytest.mark.parametrize("plant", [plant_symlink, plant_hard_link, plant_fifo, plant_folder, plant_dangling_symlink])
def test_what_is_no_plain_file_is_refused_and_left_alone(
    plant: Callable[[Path, Path], None],
    spool: Spool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"somebody's\ntorn")
    active, sealed = spool.queue / NAME.active, spool.queue / NAME._replace(sequence=2).sealed(5)
    plant(active, outside)
    if plant is not plant_hard_link:
        plant(sealed, outside)
    neighbour = leave_segment(spool, sample_event(1).line, sequence=9)
    before = active.lstat()

    assert recover(spool) == 1
    assert "not a plain file with one name" in caplog.text
    after = active.lstat()
    assert (after.st_ino, after.st_mode, after.st_nlink) == (before.st_ino, before.st_mode, before.st_nlink)
    assert outside.read_bytes() == b"somebody's\ntorn"
    assert not neighbour.exists()
    for segment in spool.sealed_segments():
        if segment.path == sealed:
            with pytest.raises(UnsafeFileError):
                verify_segment(spool, segment)
    # Only what is readable counts, and what is not hides nothing else.
    assert spool.statistics()[:4] == (1, len(sample_event(1).line), 1, 0)


def test_a_file_that_changes_into_a_link_while_it_is_claimed_is_refused(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = leave_segment(spool, sample_event(1).line)
    real = platform.try_lock

    def link_then_lock(descriptor: int) -> bool:
        if not (tmp_path / "second-name").exists():
            (tmp_path / "second-name").hardlink_to(path)
        return real(descriptor)

    monkeypatch.setattr(platform, "try_lock", link_then_lock)
    assert recover(spool) == 0
    assert path.read_bytes() == sample_event(1).line


def test_appending_to_a_deleted_segment_is_not_acknowledged(spool: Spool) -> None:
    segment = ActiveSegment.create(spool.filesystem, spool.queue, NAME)
    segment.append(sample_event(1).line, 1)
    (spool.queue / NAME.active).unlink()
    with pytest.raises(QueueWriteError, match="deleted under its writer"):
        segment.append(sample_event(2).line, 1)
    assert not segment.usable


def test_a_name_given_away_while_it_is_created_is_left_for_the_next(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = platform.try_lock
    recoveries = iter([True, True])

    def recover_then_lock(descriptor: int) -> bool:
        if next(recoveries, False):
            monkeypatch.setattr(platform, "try_lock", real)
            recover(spool)
            monkeypatch.setattr(platform, "try_lock", recover_then_lock)
        return real(descriptor)

    monkeypatch.setattr(platform, "try_lock", recover_then_lock)
    segment = ActiveSegment.create(spool.filesystem, spool.queue, NAME)
    segment.append(sample_event(1).line, 1)
    segment.seal()
    assert segment.sequence == NAME.sequence + 2
    assert queued_lines(spool) == [sample_event(1).line]


def test_a_segment_sealed_while_a_recoverer_opens_it_is_not_touched(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = ActiveSegment.create(spool.filesystem, spool.queue, NAME)
    segment.append(sample_event(1).line, 1)
    real = platform.try_lock

    def seal_then_lock(descriptor: int) -> bool:
        segment.seal()
        return real(descriptor)

    monkeypatch.setattr(platform, "try_lock", seal_then_lock)
    assert recover(spool) == 0
    assert [found.path.name for found in spool.sealed_segments()] == [NAME.sealed(1)]
