"""A disk without room for the copies of damaged segments, or that fails between two reads: the others still load."""

import errno
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from tests.uploader.fake_warehouse import FakeWarehouse
from tests.uploader.uploader_samples import ORIGIN, damaged, sample_event, sample_lines, seal

from snowledger_queue import DeadLetter, DeadLetterBox, OsFilesystem, SealedSegment, Spool
from snowledger_uploader import Breaker, Delivery, Drain, DrainedBatch, OwnEvents, _unreadable, form_batch
from snowledger_uploader._drift import DriftAlert

WRITE = Path.write_bytes
ROOMY = 10**9


class FullDisk:
    """Has room for so many bytes of segments and scratch files, and takes of a file what fits."""

    def __init__(self, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = ROOMY
        self.error = errno.ENOSPC
        self._spool = spool
        full = self

        def write_bytes(path: Path, data: bytes) -> int:
            return full.write(path, data) if path.parent == spool.work else WRITE(path, data)

        monkeypatch.setattr(Path, "write_bytes", write_bytes)

    def used(self) -> int:
        folders = (self._spool.queue, self._spool.work)
        return sum(path.stat().st_size for folder in folders for path in folder.iterdir())

    def write(self, path: Path, data: bytes) -> int:
        free = max(0, self.room - self.used())
        if len(data) > free:
            WRITE(path, data[:free])
            raise OSError(self.error, "No space left on device")
        return WRITE(path, data)


class SecondReadFails(OsFilesystem):
    """Gives some files once only."""

    def __init__(self) -> None:
        self.bad: set[str] = set()
        self._reads: Counter[str] = Counter()

    def read(self, path: Path, offset: int = 0) -> bytes:
        self._reads[path.name] += 1
        if path.name in self.bad and self._reads[path.name] % 2 == 0:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(path, offset)


@pytest.fixture
def disk(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    """The spool's; and what was passed over is tried again at once."""
    monkeypatch.setattr(_unreadable, "RETRY_S", 0.0)
    return FullDisk(spool, monkeypatch)


def drain_of(spool: Spool, warehouse: FakeWarehouse) -> Drain:
    delivery = Delivery(warehouse, anyio.Event(), lambda _: None, Breaker(max_pause_s=0.001))
    return Drain(spool, warehouse, delivery, 5.0, alert=DriftAlert(OwnEvents(spool), ORIGIN))


async def look(drain: Drain, times: int = 1) -> list[DrainedBatch]:
    return [await drain.drain_batch(segments) for _ in range(times) if (segments := await drain.waiting())]


def seal_damaged(spool: Spool, count: int, start: int, sequence: int) -> SealedSegment:
    """So many intact lines and a damaged one."""
    return seal(spool, [damaged(sample_event(900 + sequence).line), *sample_lines(count, start)], sequence)


def numbers(warehouse: FakeWarehouse) -> list[int]:
    """Of the sample events that were loaded."""
    return sorted(int(name, 16) for name, line in warehouse.rows.items() if b'"acme"' in line)


def letters(spool: Spool) -> list[DeadLetter]:
    return list(DeadLetterBox(spool).letters())


def scratch(spool: Spool) -> list[Path]:
    return list(spool.work.iterdir())


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
async def test_a_segment_that_cannot_be_copied_leaves_no_scratch_and_holds_nobody_up(
    spool: Spool, disk: FullDisk, caplog: pytest.LogCaptureFixture, error: int
) -> None:
    first = seal_damaged(spool, 30, 0, 1)
    seal(spool, sample_lines(5, 100), 2)
    disk.room, disk.error = disk.used() + 3000, error
    warehouse = FakeWarehouse()
    drain = drain_of(spool, warehouse)
    await look(drain)
    assert numbers(warehouse) == list(range(100, 105)), "what is behind is loaded at once"
    disk.room = disk.used() + 3000
    for _ in range(5):
        await look(drain)
        assert scratch(spool) == []
    assert [path.name for path in spool.queue.iterdir()] == [first.path.name]
    assert letters(spool) == [], "it is not the segment's fault"
    assert drain.problem() is not None
    assert f"cannot copy the intact lines of {first.path.name}, left where it is: [Errno {error}]" in caplog.text
    disk.room = ROOMY
    await look(drain)
    assert drain.problem() is None
    assert numbers(warehouse) == [*range(30), *range(100, 105)]
    assert len(letters(spool)) == 1
    assert scratch(spool) == []


async def test_what_is_before_a_segment_that_cannot_be_copied_makes_room_for_the_copy(
    spool: Spool, disk: FullDisk
) -> None:
    seal(spool, sample_lines(30), 1)
    seal_damaged(spool, 20, 100, 2)
    seal(spool, sample_lines(3, 200), 3)
    disk.room = disk.used() + 100
    warehouse = FakeWarehouse()
    drain = drain_of(spool, warehouse)
    assert [batch.events for batch in await look(drain, 2)] == [30, 23]
    assert drain.problem() is None
    assert len(letters(spool)) == 1
    assert scratch(spool) == []


async def test_damaged_segments_alone_make_no_room_for_sure_so_what_is_behind_them_is_taken(
    spool: Spool, disk: FullDisk
) -> None:
    small, large = seal_damaged(spool, 2, 0, 1), seal_damaged(spool, 30, 100, 2)
    plain = seal(spool, sample_lines(3, 200), 3)
    disk.room = disk.used() + 3000
    formed = form_batch(spool, [small, large, plain], ROOMY, 1000)
    assert formed.segments == (small, plain)
    assert [segment for segment, _ in formed.unreadable] == [large]
    assert {letter.segment for letter in formed.letters} == {small.path.name}
    assert scratch(spool) == list(formed.scratch)


async def test_a_segment_without_an_intact_line_takes_no_room(spool: Spool, disk: FullDisk) -> None:
    segment = seal(spool, [damaged(line) for line in sample_lines(3)])
    disk.room = 0
    formed = form_batch(spool, [segment], ROOMY, 1000)
    assert (formed.segments, formed.scratch, formed.batch.events) == ((segment,), (), 0)
    assert len(formed.letters) == 3
    assert scratch(spool) == []


async def test_the_copies_make_room_for_the_dead_letters(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    seal_damaged(spool, 3, 0, 1)
    put = DeadLetterBox.put
    left: list[list[Path]] = []

    def put_and_look(box: DeadLetterBox, letters: Sequence[DeadLetter]) -> None:
        left.append(scratch(spool))
        put(box, letters)

    monkeypatch.setattr(DeadLetterBox, "put", put_and_look)
    await look(drain_of(spool, FakeWarehouse()))
    assert left == [[]]
    assert list(spool.queue.glob("*0123456789ab*")) == []


async def test_a_segment_that_fails_at_the_second_read_is_passed_over_like_at_the_first(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_unreadable, "RETRY_S", 0.0)
    filesystem = SecondReadFails()
    spool = Spool(spool.home, filesystem)
    seal_damaged(spool, 3, 0, 1)
    bad = seal_damaged(spool, 3, 100, 2)
    seal(spool, sample_lines(3, 200), 3)
    filesystem.bad = {bad.path.name}
    warehouse = FakeWarehouse()
    drain = drain_of(spool, warehouse)
    await look(drain)
    assert numbers(warehouse) == [0, 1, 2, 200, 201, 202]
    assert f"cannot read {bad.path.name}, left where it is: [Errno 5]" in caplog.text
    assert bad.path.exists()
    assert scratch(spool) == []
    filesystem.bad = set()
    await look(drain, 2)
    assert numbers(warehouse) == [0, 1, 2, 100, 101, 102, 200, 201, 202]
    assert len(letters(spool)) == 2
