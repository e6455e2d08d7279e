"""Locks: one holder, named to those who come second, gone with its process."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.queue_package.queue_process import QueueProcess

from snowledger_queue import (
    LockHeldError,
    ProcessLock,
    Spool,
    UnsafeFileError,
    live_servers,
    lock_holder,
    server_presence,
)
from snowledger_queue import _platform as platform

Start = Callable[..., QueueProcess]


def test_a_second_holder_is_refused_and_told_the_first(spool: Spool, start: Start) -> None:
    pid = start("lock", spool.home).next()["pid"]
    with pytest.raises(LockHeldError, match=f"is held by process {pid} since 20") as caught:
        ProcessLock.acquire(spool.uploader_lock, "uploader")
    assert caught.value.transient
    assert caught.value.holder["pid"] == pid
    assert caught.value.holder["role"] == "uploader"
    assert lock_holder(spool.uploader_lock) == caught.value.holder


def test_a_second_holder_in_the_same_process_is_refused(spool: Spool) -> None:
    lock = ProcessLock.acquire(spool.uploader_lock, "uploader")
    with pytest.raises(LockHeldError):
        ProcessLock.acquire(spool.uploader_lock, "uploader")
    lock.release()
    ProcessLock.acquire(spool.uploader_lock, "uploader").release()


@pytest.mark.parametrize("ending", [QueueProcess.kill, QueueProcess.end])
def test_a_lock_goes_with_its_process(ending: Callable[[QueueProcess], object], spool: Spool, start: Start) -> None:
    process = start("lock", spool.home)
    process.next()
    assert lock_holder(spool.uploader_lock) is not None
    ending(process)
    assert lock_holder(spool.uploader_lock) is None
    lock = ProcessLock.acquire(spool.uploader_lock, "uploader")
    assert lock_holder(spool.uploader_lock) is not None
    lock.release()


def test_nobody_holds_a_lock_that_never_was(spool: Spool) -> None:
    assert lock_holder(spool.uploader_lock) is None
    assert not spool.uploader_lock.exists()


def test_a_deleted_lock_file_is_noticed(spool: Spool) -> None:
    lock = ProcessLock.acquire(spool.uploader_lock, "uploader")
    assert lock.held()
    spool.uploader_lock.unlink()
    assert not lock.held()
    second = ProcessLock.acquire(spool.uploader_lock, "uploader")
    assert not lock.held()
    assert second.held()
    lock.release()
    assert second.held()
    second.release()


def test_a_look_at_the_lock_does_not_disturb_who_wants_it(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    ProcessLock.acquire(spool.uploader_lock, "uploader").release()
    looking = os.open(spool.uploader_lock, os.O_RDWR)
    assert platform.try_lock(looking)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            os.close(looking)

    monkeypatch.setattr("snowledger_queue._locks.time.sleep", wait)
    ProcessLock.acquire(spool.uploader_lock, "uploader").release()
    assert len(waits) == 2


@pytest.mark.parametrize("note", [b"", b"[]", b"{", b"\xff" * 5000])
def test_an_unreadable_note_is_no_reason_to_fail(note: bytes, spool: Spool) -> None:
    lock = ProcessLock.acquire(spool.uploader_lock, "uploader")
    spool.uploader_lock.write_bytes(note)
    assert lock_holder(spool.uploader_lock) == {}
    with pytest.raises(LockHeldError, match="held by process unknown"):
        ProcessLock.acquire(spool.uploader_lock, "uploader")
    lock.release()


def test_a_full_disk_does_not_keep_the_uploader_from_emptying_it(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        lock = ProcessLock.acquire(spool.uploader_lock, "uploader")
    assert lock.held()
    assert lock_holder(spool.uploader_lock) == {}
    lock.release()


def test_a_link_planted_as_a_lock_file_is_refused(spool: Spool, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    spool.uploader_lock.hardlink_to(precious)
    with pytest.raises(UnsafeFileError):
        ProcessLock.acquire(spool.uploader_lock, "uploader")
    assert precious.read_bytes() == b"precious"


def test_live_servers_are_counted_and_dead_ones_removed(spool: Spool, start: Start) -> None:
    assert live_servers(spool) == 0
    processes = [start("server", spool.home) for _ in range(3)]
    for process in processes:
        process.next()
    with server_presence(spool):
        assert live_servers(spool) == 4
        processes[0].kill()
        processes[1].end()
        assert live_servers(spool) == 2
        assert len(list(spool.servers.iterdir())) == 2
    assert live_servers(spool) == 1
    processes[2].kill()
    assert live_servers(spool) == 0
    assert list(spool.servers.iterdir()) == []


def test_a_server_that_just_starts_is_never_taken_for_a_dead_one(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between finding a file unlocked and removing it, its server may lock it: so it is removed under the lock."""
    (spool.servers / "1-1.lock").write_bytes(b"{}")
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        assert lock_holder(path) is not None
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert live_servers(spool) == 0
    assert list(spool.servers.iterdir()) == []
