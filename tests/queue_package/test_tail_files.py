"""The tail amid files that are no segments, names that change while it looks, and what a look costs."""

from __future__ import annotations

import errno
import os
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from tests.queue_package.tail_samples import (
    NOBODY,
    assert_right,
    catch_up,
    events,
    line,
    numbers,
    put,
    seal,
    segment_path,
    settle,
)

from snowledger_queue import (
    OsFilesystem,
    QueueTail,
    Spool,
    contribution,
)
from snowledger_queue._queued import QueuedContents

# Files that are not segments


def unsafe(kind: str, path: Path) -> None:
    match kind:
        case "link":
            path.symlink_to(put(path.with_name("elsewhere"), line(99)))
        case "second name":
            path.hardlink_to(put(path.with_name("elsewhere"), line(99)))
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "dangling link":
            path.symlink_to("nowhere")


@pytest.mark.parametrize("kind", ["link", "second name", "fifo", "folder", "dangling link"])
@pytest.mark.parametrize("count", [None, 1])
def test_what_is_not_a_plain_file_is_left_alone(
    spool: Spool, tail: QueueTail, kind: str, count: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    unsafe(kind, segment_path(spool, 2, count))
    put(segment_path(spool, 1), line(1))
    put(segment_path(spool, 3), line(3))
    settle(tail)
    assert numbers(tail.queued("acme", NOBODY)) == [3, 1]
    tail.read()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_other_names_are_ignored(spool: Spool, tail: QueueTail) -> None:
    for name in ("notes.txt", ".uploader.json.123.open", "1763698847123-0123456789AB-00000001.open"):
        put(spool.queue / name, line(1))
    settle(tail)
    assert events(tail) == 0


def test_a_file_that_cannot_be_read_is_tried_again(
    spool: Spool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(OsFilesystem):
        fails = True

        def read(self, path: Path, offset: int = 0) -> bytes:
            if self.fails and path.name.endswith(".ndjson"):
                raise PermissionError(errno.EACCES, "no", str(path))
            return super().read(path, offset)

    disk = Failing()
    tail = QueueTail(replace(spool, filesystem=disk))
    put(segment_path(spool, 1, 1), line(1))
    put(segment_path(spool, 2), line(2))
    settle(tail)
    assert numbers(tail.queued("acme", NOBODY)) == [2]
    clock = time.monotonic
    monkeypatch.setattr("snowledger_queue._tail.monotonic", lambda: clock() + 1.5)
    settle(tail)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    disk.fails = False
    monkeypatch.setattr("snowledger_queue._tail.monotonic", lambda: clock() + 3)
    settle(tail)
    assert numbers(tail.queued("acme", NOBODY)) == [2, 1]


def test_a_folder_that_is_gone_is_logged_once(spool: Spool, tail: QueueTail, caplog: pytest.LogCaptureFixture) -> None:
    spool.queue.rmdir()
    for _ in range(3):
        assert tail.pending() == 0
        tail.read()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    spool.queue.mkdir()
    put(segment_path(spool), line(1))
    catch_up(tail)
    assert events(tail) == 1


def test_two_files_of_one_stem_count_as_one(spool: Spool, tail: QueueTail) -> None:
    active, sealed = put(segment_path(spool), line(1)), put(segment_path(spool, events=2), line(1), line(2))
    settle(tail)
    assert numbers(tail.queued("acme", NOBODY)) == [2, 1]
    sealed.unlink()
    settle(tail)
    assert numbers(tail.queued("acme", NOBODY)) == [1]
    active.unlink()
    settle(tail)
    assert events(tail) == 0


# Names that change meanwhile


def test_a_segment_that_is_sealed_between_listing_and_reading_is_found(spool: Spool) -> None:
    class Late(OsFilesystem):
        def read(self, path: Path, offset: int = 0) -> bytes:
            if path.name.endswith(".open") and path.exists():
                seal(path)
            return super().read(path, offset)

    tail = QueueTail(replace(spool, filesystem=Late()))
    put(segment_path(spool, 1), line(1))
    put(segment_path(spool, 2), line(2))
    catch_up(tail)
    assert_right(tail, spool)


def test_a_listing_that_misses_a_segment_amid_its_renaming_drops_nothing(spool: Spool) -> None:
    class Torn(OsFilesystem):
        torn = 0

        def names(self, folder: Path) -> list[str]:
            names = super().names(folder)
            if self.torn and len(names) > 0:
                self.torn -= 1
                return [name for name in names if "00000001" not in name]
            return names

    disk = Torn()
    tail = QueueTail(replace(spool, filesystem=disk))
    path = put(segment_path(spool, 1), line(1))
    put(segment_path(spool, 2), line(2))
    settle(tail)
    version = tail.version("acme")
    disk.torn = 1
    seal(path)
    assert tail.pending() == 0
    assert tail.version("acme") == version
    assert_right(tail, spool)


def test_a_new_segment_that_a_long_listing_misses_is_found(spool: Spool) -> None:
    class Torn(OsFilesystem):
        torn = False

        def names(self, folder: Path) -> list[str]:
            torn, self.torn = self.torn, False
            return [name for name in super().names(folder) if not torn or "00009999" not in name]

    disk = Torn()
    tail = QueueTail(replace(spool, filesystem=disk))
    for number in range(300):
        put(segment_path(spool, number, 1), line(number))
    settle(tail)
    disk.torn = True
    put(segment_path(spool, 9999, 1), line(9999))
    assert tail.pending() > 64 * 1024
    tail.read()
    assert_right(tail, spool)


def test_no_change_is_missed_however_fast_they_follow(spool: Spool, tail: QueueTail) -> None:
    """Most of these fall into one step of the file system's clock."""
    paths: list[Path] = []
    for number in range(600):
        match number % 5:
            case 0 | 1:
                paths.append(put(segment_path(spool, number), line(number)))
            case 2:
                put(paths[-1], line(number))
            case 3:
                paths[-2] = seal(paths[-2])
            case 4:
                paths.pop(number % len(paths)).unlink()
        catch_up(tail)
        assert tail.pending() == 0
        lines = sum(path.read_bytes().count(b"\n") for path in paths)
        assert events(tail) == lines, number
        if len(paths) > 30:
            paths.pop(0).unlink()
    assert_right(tail, spool)


# What it costs


class Counting(OsFilesystem):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def read(self, path: Path, offset: int = 0) -> bytes:
        self.calls.append("read")
        return super().read(path, offset)

    def look(self, path: Path) -> tuple[int, int]:
        self.calls.append("look")
        return super().look(path)

    def names(self, folder: Path) -> list[str]:
        self.calls.append("names")
        return super().names(folder)


def test_when_nothing_changes_only_active_segments_are_looked_at(spool: Spool) -> None:
    disk = Counting()
    tail = QueueTail(replace(spool, filesystem=disk))
    for number in range(300):
        put(segment_path(spool, number, 1), line(number))
    for number in range(300, 302):
        put(segment_path(spool, number), line(number))
    settle(tail)
    disk.calls.clear()
    assert tail.pending() == 0
    assert disk.calls == ["look", "look"]


def test_the_first_listing_is_left_to_the_reading(spool: Spool) -> None:
    disk = Counting()
    tail = QueueTail(replace(spool, filesystem=disk))
    assert tail.pending() > 64 * 1024
    assert disk.calls == []
    tail.read()
    assert tail.pending() == 0


def test_a_segment_is_read_once_and_its_growth_alone_after_that(spool: Spool) -> None:
    read: list[int] = []

    class Measuring(OsFilesystem):
        def read(self, path: Path, offset: int = 0) -> bytes:
            content = super().read(path, offset)
            read.append(len(content))
            return content

    tail = QueueTail(replace(spool, filesystem=Measuring()))
    path = put(segment_path(spool), *(line(number) for number in range(100)))
    settle(tail)
    read.clear()
    put(path, line(100))
    catch_up(tail)
    assert read == [len(line(100)) + 20]


def test_old_events_of_a_segment_are_counted_without_being_kept(spool: Spool, tail: QueueTail) -> None:
    order = [*range(500, 1000), *range(500)]
    customers = ("acme", "zürich", 'glo"bex', "globex")
    put(segment_path(spool), *(line(number, customers[number % 4]) for number in order))
    put(segment_path(spool, 2, 60), *(line(number, link="https://a.example/é") for number in range(1000, 1060)))
    catch_up(tail)
    assert_right(tail, spool)
    assert events(tail, 'glo"bex') == 250
    kept = tail._contents._customers
    assert {name: [len(part.recent) for part in one.parts.values()] for name, one in kept.items()} == {
        name: [10] for name in customers
    }
    assert [len(one.recent) for one in kept.values() if one.recent] == [10]


def test_what_thousands_of_sealed_segments_leave_in_memory_is_little() -> None:
    segments, customers = 150, 50
    contents = QueuedContents()
    found = [contribution(line(number, f"customer-{number}")) for number in range(customers)]

    def fill(first: int) -> None:
        for segment in range(first, first + segments):
            for one in found:
                assert one is not None
                assert one.event is not None
                event = one.event._replace(event_id=f"{segment:032x}", ts=f"{one.event.ts[:-7]}{segment:06d}Z")
                contents.add(str(segment), one._replace(event=event), counts=True)
            contents.settle(str(segment))

    fill(0)
    tracemalloc.start()
    try:
        fill(segments)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < segments * (customers * 50 + 2_000)
    assert sum(contents.queued("customer-7", NOBODY).hours.values()) == 2 * segments
