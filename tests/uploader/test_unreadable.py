"""Files that cannot be read: they hold nobody up, and what the disk does not give is kept for another day."""

import errno
import os
from pathlib import Path

import anyio
import pytest
from tests.uploader.fake_warehouse import FakeWarehouse
from tests.uploader.uploader_samples import sample_event, sample_lines, seal

from snowledger_queue import DeadLetterBox, OsFilesystem, Spool
from snowledger_uploader import Breaker, Delivery, Drain, _unreadable

ACTIVE = "1763698847123-0123456789ab-00000009.open"


class BadDisk(OsFilesystem):
    """Does not give some files."""

    def __init__(self) -> None:
        self.bad: dict[str, int] = {}

    def read(self, path: Path, offset: int = 0) -> bytes:
        if path.name in self.bad:
            raise OSError(self.bad[path.name], "Input/output error")
        return super().read(path, offset)


@pytest.fixture
def bad(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> Spool:
    """A spool on a bad disk, and an uploader that loses no time."""
    monkeypatch.setattr(_unreadable, "RETRY_S", 0.0)
    return Spool(spool.home, BadDisk())


async def look(drain: Drain, times: int) -> None:
    for _ in range(times):
        if segments := await drain.waiting():
            await drain.drain_batch(segments)


def drain_of(spool: Spool, warehouse: FakeWarehouse) -> Drain:
    return Drain(spool, warehouse, Delivery(warehouse, anyio.Event(), lambda _: None, Breaker(max_pause_s=0.001)), 5.0)


def lock_free(spool: Spool, name: str, lines: list[bytes]) -> Path:
    """An active segment whose writer is gone."""
    path = spool.queue / name
    path.write_bytes(b"".join(lines))
    return path


async def test_what_the_disk_does_not_give_is_set_aside_whole_and_comes_back_when_it_does(bad: Spool) -> None:
    assert isinstance(bad.filesystem, BadDisk)
    segment = seal(bad, sample_lines(3), 1)
    active = lock_free(bad, ACTIVE, sample_lines(2, 3))
    seal(bad, sample_lines(2, 10), 2)
    bad.filesystem.bad = {segment.path.name: errno.EIO, active.name: errno.EIO}
    warehouse = FakeWarehouse()
    drain = drain_of(bad, warehouse)
    await look(drain, 1)
    assert len(warehouse.rows) == 2, "what is behind is loaded at once"
    assert "2 files in the queue cannot be read" in str(drain.problem())
    await look(drain, 3)
    assert list(bad.queue.iterdir()) == []
    assert drain.problem() is None
    box = DeadLetterBox(bad)
    letters = list(box.letters())
    assert [(letter.error_class, letter.segment) for letter in letters] == [
        ("unreadable", segment.path.name),
        ("unreadable", active.name),
    ]
    assert all(letter.file and letter.file.sha256 is None for letter in letters)
    assert box.file(letters[0]).read_bytes() == b"".join(sample_lines(3))
    bad.filesystem.bad = {}
    for letter in letters:
        assert box.put_back(letter)
        box.remove([letter])
    await look(drain, 2)
    assert len(warehouse.rows) == 7
    assert not list(box.letters())


async def test_what_the_process_lacks_is_not_the_file_s_fault(bad: Spool) -> None:
    assert isinstance(bad.filesystem, BadDisk)
    segment = seal(bad, sample_lines(3))
    bad.filesystem.bad = {segment.path.name: errno.EMFILE}
    warehouse = FakeWarehouse()
    drain = drain_of(bad, warehouse)
    await look(drain, 5)
    assert segment.path.exists()
    bad.filesystem.bad = {}
    await look(drain, 1)
    assert len(warehouse.rows) == 3


async def test_a_file_that_is_no_segment_is_set_aside_once_nobody_writes_to_it(bad: Spool, tmp_path: Path) -> None:
    old, fresh = bad.queue / "notes.ndjson", bad.queue / "copying.ndjson"
    for path in (old, fresh):
        path.write_bytes(b"{}\n")
    os.utime(old, (1_700_000_000, 1_700_000_000))
    (bad.queue / "link").symlink_to(tmp_path / "nowhere")
    (bad.queue / "folder").mkdir()
    await look(drain_of(bad, FakeWarehouse()), 2)
    (letter,) = DeadLetterBox(bad).letters()
    assert (letter.error_class, letter.segment, letter.file and letter.file.size) == ("foreign", old.name, 3)
    assert DeadLetterBox(bad).file(letter).read_bytes() == b"{}\n"
    assert sorted(path.name for path in bad.queue.iterdir()) == ["copying.ndjson", "folder", "link"]


async def test_damage_that_is_larger_than_any_event_is_kept_in_a_file(bad: Spool) -> None:
    garbage = b"\xff" * (2 * 1024 * 1024)
    seal(bad, [sample_event(1).line, garbage + b"\n"])
    warehouse = FakeWarehouse()
    await look(drain_of(bad, warehouse), 1)
    (letter,) = DeadLetterBox(bad).letters()
    assert (letter.error_class, letter.original) == ("damaged", b"")
    assert DeadLetterBox(bad).file(letter).read_bytes() == garbage
    assert len(warehouse.rows) == 1
    assert sum(path.stat().st_size for path in bad.dead_letters.glob("*.ndjson")) < 1000
