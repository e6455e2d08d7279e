"""The spool folder: private, of a known format, and measured right."""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.queue_package.fault_filesystem import FaultFilesystem
from tests.queue_package.queue_samples import leave_segment, sample_event, sample_events

from snowledger_queue import (
    DeadLetterBox,
    ProcessLock,
    RotationPolicy,
    SegmentName,
    Spool,
    SpoolError,
    UnsafeFileError,
    UploaderStatus,
    dead_letter,
    open_spool,
    open_writer,
    read_uploader_status,
    recover,
    server_presence,
    write_small_file,
    write_uploader_status,
)
from snowledger_queue import _platform as platform

NOBODY = 65534


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A user whose files everybody may use unless told otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


@contextmanager
def as_ordinary_user(folder: Path) -> Iterator[None]:
    """Root may do anything, so give the folder away and be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def everything(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")}


@pytest.mark.usefixtures("open_umask")
async def test_all_that_a_spool_holds_is_private(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "some" / "where" / "spool")
    with server_presence(spool):
        lock = ProcessLock.acquire(spool.uploader_lock, "uploader")
        write_uploader_status(spool, UploaderStatus(1, "idle", "now"))
        DeadLetterBox(spool).put([dead_letter("damaged", "reason", "segment", 0, b"line")])
        leave_segment(spool, sample_event(1).line + b"torn").chmod(0o600)
        recover(spool)
        async with open_writer(spool, RotationPolicy(max_age_s=600)) as writer:
            await writer.append([sample_event(1)])
            modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in [spool.home, *spool.home.rglob("*")]}
        lock.release()
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.suffix in {".lock", ".json", ".torn", ".ndjson"}} == {0o600}
    assert modes[spool.home / "format"] == 0o600
    assert {mode for path, mode in modes.items() if path.suffix == ".open"} <= {0o600}


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
@pytest.mark.parametrize("inner", ["", "queue", "torn", "dead_letters", "servers", "work"])
def test_a_folder_that_others_can_enter_is_refused(mode: int, inner: str, spool: Spool) -> None:
    (spool.home / inner).chmod(mode)
    with pytest.raises(SpoolError, match=f"chmod 700 {spool.home / inner}"):
        open_spool(spool.home)


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    home = Path("/")
    if os.geteuid() == 0:
        home = tmp_path / "theirs"
        home.mkdir(0o700)
        os.chown(home, NOBODY, NOBODY)
    with pytest.raises(SpoolError, match="belongs to user id"):
        open_spool(home)


@pytest.mark.parametrize("content", [b"snowledger spool 2\n", b"", b"\xff" * 100])
def test_another_format_is_refused_and_untouched(content: bytes, tmp_path: Path) -> None:
    home = tmp_path / "spool"
    home.mkdir(0o700)
    (home / "format").write_bytes(content)
    before = everything(home)
    with pytest.raises(SpoolError, match="this snowledger knows 'snowledger spool 1'; nothing was touched"):
        open_spool(home)
    assert everything(home) == before


def test_a_folder_that_cannot_be_created_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SpoolError, match=r"cannot create the folder .*SNOWLEDGER_HOME"):
        open_spool(tmp_path / "file" / "spool")
    with pytest.raises(SpoolError, match=r"cannot create the folder .*File exists"):
        open_spool(tmp_path / "file")


@pytest.mark.parametrize("inner", ["", "queue"])
def test_a_folder_that_cannot_be_written_is_refused_at_once(inner: str) -> None:
    with TemporaryDirectory() as folder:  # not below tmp_path, which an ordinary user cannot enter
        Path(folder).chmod(0o711)
        spool = open_spool(Path(folder) / "spool")
        with as_ordinary_user(spool.home):
            open_spool(spool.home)
            (spool.home / inner).chmod(0o500)
            with pytest.raises(SpoolError, match="cannot be written"):
                open_spool(spool.home)
            (spool.home / inner).chmod(0o700)


def test_a_planted_format_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "spool"
    home.mkdir(0o700)
    (home / "format").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFileError):
        open_spool(home)
    assert not (tmp_path / "elsewhere").exists()


def test_the_names_of_a_new_spool_are_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(platform, "sync_folder", synced.append)
    home = tmp_path / "some" / "where"
    open_spool(home)
    assert {tmp_path, tmp_path / "some", home} <= set(synced)


def test_opening_again_changes_nothing(spool: Spool) -> None:
    leave_segment(spool, sample_event(1).line)
    before = everything(spool.home)
    open_spool(spool.home)
    assert everything(spool.home) == before


def test_statistics_count_sealed_and_active_segments(spool: Spool) -> None:
    assert spool.statistics() == (0, 0, 0, 0, None, 0)
    lines = [event.line for event in sample_events(5)]
    old = int(time.time() * 1000) - 90_000
    for name, content in [
        (SegmentName(old, "0123456789ab", 1, None).sealed(3), b"".join(lines[:3])),
        (SegmentName(old + 60_000, "0123456789ab", 2, None).active, b"".join(lines[3:]) + b"not complete"),
    ]:
        (spool.queue / name).write_bytes(content)
    (spool.queue / "notes.txt").write_bytes(b"\n\n\n")
    (spool.torn / "1.torn").write_bytes(b"x")
    (spool.torn / ".2.torn.5f3a.open").write_bytes(b"a draft that a crash left")
    measured = spool.statistics()
    assert measured[:4] == (5, len(b"".join(lines)) + len(b"not complete"), 1, 1)
    assert measured.oldest_age_s is not None
    assert 90 <= measured.oldest_age_s < 150
    assert measured.torn_tails == 1


def test_segments_are_listed_oldest_first(spool: Spool) -> None:
    names = [SegmentName(opened, "0123456789ab", 1, None).sealed(1) for opened in (3, 1, 2)]
    for name in names:
        (spool.queue / name).write_bytes(sample_event(1).line)
    assert [segment.name.opened_ms for segment in spool.sealed_segments()] == [1, 2, 3]


@pytest.mark.parametrize("call", ["create", "write", "sync", "rename"])
def test_a_small_file_is_the_old_one_until_it_is_the_new_one(call: str, tmp_path: Path) -> None:
    disk = FaultFilesystem()
    path = tmp_path / "small"
    write_small_file(path, b"old", disk)
    disk.inject(call, OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        write_small_file(path, b"new", disk)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write_small_file(path, b"new", disk)
    assert path.read_bytes() == b"new"


def test_the_uploaders_status_survives_a_round_trip(spool: Spool) -> None:
    assert read_uploader_status(spool) is None
    status = UploaderStatus(7, "idle", "2026-11-21T04:20:47Z", batches=3, problem="a \N{SNOWMAN} problem")
    write_uploader_status(spool, status)
    assert read_uploader_status(spool) == status
    spool.uploader_status.write_bytes(b'{"pid":')
    assert read_uploader_status(spool) is None
