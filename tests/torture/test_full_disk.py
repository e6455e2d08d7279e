"""Disks that fill up under the running server and uploader: typed errors, and all works again when there is space.

The disks are small tmpfs, one with the spool and one with the warehouse, so that each can be full alone.
"""

import errno
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.acceptance.ledger import Ledger, wait_until
from tests.torture.disks import small_disk
from tests.torture.load import ROOMY, Caller, Told, drain
from tests.uploader.uploader_samples import damaged, sample_event

from snowledger_queue import SegmentName, UploaderStatus, read_uploader_status

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT TRIED: small disks take Linux")

MEGABYTE = bytes(1024**2)
FULL = "No space left on device"
BAD_LINE = damaged(sample_event(1).line)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with ExitStack() as disks:
        spool = disks.enter_context(small_disk(tmp_path / "small", "size=64m", "nr_inodes=400"))
        warehouse = disks.enter_context(small_disk(tmp_path / "other", "size=64m"))
        ledger = Ledger(tmp_path, spool / "spool")
        ledger.warehouse = warehouse / "warehouse.duckdb"
        ledger.environment["SNOWLEDGER_DUCKDB_PATH"] = str(ledger.warehouse)
        disks.callback(ledger.close)
        yield ledger


class Fillers:
    """What takes the rest of a disk until it is freed."""

    def __init__(self, disk: Path) -> None:
        self._folder = disk / "fillers"
        self._folder.mkdir(exist_ok=True)

    def take_bytes(self) -> None:
        """Leave not a byte."""
        with (self._folder / "bytes").open("ab", buffering=0) as file:
            for part in (MEGABYTE, MEGABYTE[:4096]):
                while _is_done(lambda: file.write(part)):  # noqa: B023 - called at once
                    pass

    def take_names(self) -> None:
        """Let no further file be made."""
        number = 0
        while _is_done((self._folder / str(number)).touch):
            number += 1

    def free(self) -> None:
        for file in self._folder.iterdir():
            file.unlink()


def _is_done(act: Callable[[], object]) -> bool:
    """False when there is no space for it."""
    try:
        act()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


class Running:
    """A server under load and an uploader, which must outlive all that happens to their disks."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.told = Told()
        self._uploader = ledger.start("upload", **ROOMY)
        wait_until(ledger.spool.state.exists, "queries can be asked for")
        self._server = ledger.start("serve", "--no-uploader", **ROOMY)
        self.caller = Caller(self._server, self.told, "a", random.Random(1), pause_s=0.02)

    def acks(self) -> None:
        before = self.caller.acked
        wait_until(lambda: self.caller.acked > before + 5, "events are acknowledged")

    def loads(self) -> None:
        before = self.status().events
        wait_until(lambda: self.status().events > before, "events are loaded")

    def status(self) -> UploaderStatus:
        return read_uploader_status(self.ledger.spool) or UploaderStatus(0, "", "")

    def end(self) -> None:
        self.caller.stop()
        assert self._server.poll() is None
        assert self._uploader.poll() is None, self.ledger.errors
        self.caller.end(kill=False)
        self._uploader.terminate()
        assert self._uploader.wait(20) == 0


def test_a_full_disk_is_a_typed_error_and_all_goes_on_when_there_is_space(ledger: Ledger) -> None:
    running = Running(ledger)
    told = running.told
    running.acks()
    running.loads()
    _fill_the_warehouse_s_disk(running, Fillers(ledger.warehouse.parent))
    assert told.refused == []  # nobody who logs notices
    _fill_the_spool_s_disk(running, Fillers(ledger.home.parent))
    assert any(FULL in refused["error"] for refused in told.refused)
    _take_all_names(running, Fillers(ledger.home.parent))
    running.end()
    drain(ledger)
    assert "Traceback" not in ledger.errors
    assert all(refused["retryable"] for refused in told.refused), told.refused
    assert ledger.queued() == []
    assert [letter.original + b"\n" for letter in ledger.dead_letters()] == [BAD_LINE]
    told.check(ledger)
    told.check_tickets(ledger)


def _fill_the_warehouse_s_disk(running: Running, fillers: Fillers) -> None:
    fillers.take_bytes()
    wait_until(lambda: running.status().problem, "the uploader says what it waits for")
    assert "full" in str(running.status().problem)
    running.acks()
    fillers.free()
    running.loads()
    wait_until(lambda: running.status().problem is None, "the uploader has no problem any more")


def _fill_the_spool_s_disk(running: Running, fillers: Fillers) -> None:
    """While a line waits to be dead-lettered."""
    spool = running.ledger.spool
    bad = spool.home / "bad"
    bad.write_bytes(BAD_LINE)
    fillers.take_bytes()
    wait_until(lambda: len(running.told.refused) > 5, "calls are refused")

    running.caller.calling.clear()

    def nothing_else_is_queued() -> bool:
        fillers.take_bytes()  # what is loaded makes space
        return not any(spool.queue.iterdir())

    wait_until(nothing_else_is_queued, "all that was acknowledged is loaded")
    name = SegmentName(time.time_ns() // 1_000_000, "0123456789ab", 1, None)
    bad.rename(spool.queue / name.sealed(1))
    wait_until(lambda: "cannot leave the queue" in running.ledger.errors, "the uploader cannot keep the dead letter")
    running.caller.calling.set()
    fillers.free()
    running.acks()
    running.loads()
    wait_until(running.ledger.dead_letters, "the line is dead-lettered")


def _take_all_names(running: Running, fillers: Fillers) -> None:
    before = len(running.ledger.errors)
    fillers.take_names()
    wait_until(lambda: FULL in running.ledger.errors[before:], "somebody notices")
    fillers.free()
    running.acks()
    running.loads()
