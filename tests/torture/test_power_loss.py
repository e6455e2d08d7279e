"""Power lost at random moments under the real server and uploader: nothing acknowledged is lost, nothing is twice.

The disk is an ext4 file system in a file that is shut down without a last flush. `make torture` asks for 200 losses.
"""

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.ledger import Ledger, wait_until
from tests.torture.disks import PowerLossDisk, power_loss_disk
from tests.torture.load import ROOMY, Caller, Told, close_pipes, drain, fresh_event_arrives
from tests.torture.size import size, time_limit_s, torture_seed
from tests.uploader.uploader_samples import damaged, sample_event

from snowledger_queue import SegmentName, Spool, write_small_file
from snowledger_queue._kill_switch import KillSwitchFile

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="NOT TRIED: losing power takes Linux"),
    pytest.mark.timeout(time_limit_s("SNOWLEDGER_TORTURE_POWER_LOSSES", 15)),
]

LOSSES = size("SNOWLEDGER_TORTURE_POWER_LOSSES", 3)
LIFE_S = 1.2
"""Longer than a segment lives, so that some losses come while one is sealed, loaded and deleted."""

PATIENCE_S = 40.0
"""Three processes start at once, on a machine that may be busy."""

NOW = "2026-11-21T04:20:47.123456Z"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[PowerLossDisk]:
    with power_loss_disk(tmp_path) as disk:
        yield disk


@pytest.fixture
def ledger(tmp_path: Path, disk: PowerLossDisk) -> Iterator[Ledger]:
    """With its spool and warehouse on that disk, and its processes ended before that is unmounted."""
    ledger = Ledger(tmp_path, disk.path / "spool")
    yield ledger
    ledger.close()


def test_whenever_power_is_lost_every_acknowledged_event_is_in_the_warehouse_once(
    ledger: Ledger, disk: PowerLossDisk
) -> None:
    chance = random.Random(f"{torture_seed()}/power")
    told = Told()
    letters: set[bytes] = set()
    begun = time.monotonic()
    for number in range(1, LOSSES + 1):
        _until_power_is_lost(ledger, disk, told, number, chance, letters)
    drain(ledger)
    print(  # noqa: T201 - `make torture` shows it
        f"{LOSSES} losses of power in {time.monotonic() - begun:.0f} s: {len(told.sent):,} events sent, "
        f"{len(told.acked):,} acknowledged, {len(told.tickets):,} tickets, {len(letters)} dead letters"
    )
    assert ledger.queued() == []
    assert {letter.original + b"\n" for letter in ledger.dead_letters()} == letters
    assert len(told.acked) > 10 * LOSSES
    told.check(ledger)
    told.check_tickets(ledger)
    fresh_event_arrives(ledger, told, "fresh")
    told.check(ledger)


def _until_power_is_lost(
    ledger: Ledger, disk: PowerLossDisk, told: Told, number: int, chance: random.Random, letters: set[bytes]
) -> None:
    spool = ledger.spool
    letters.add(_leave_a_damaged_line(spool, number))
    callers = [
        Caller(ledger.start("serve", "--no-uploader", **ROOMY), told, f"{number}.{index}", chance)
        for index in range(chance.randint(1, 2))
    ]
    uploader = ledger.start("upload", **ROOMY)
    if number % 5 == 0:
        time.sleep(chance.uniform(0, 0.6))  # amid the start
    else:
        wait_until(lambda: any(caller.acked for caller in callers), "a server answers", PATIENCE_S)
        time.sleep(chance.uniform(0, LIFE_S))
    turned = chance.choice([None, True, False])
    if turned is not None:
        KillSwitchFile(spool).turn(on=turned, reason=f"cycle {number}", by="operator", now=NOW)
    # A flush that is under way when the file system goes may be reported as good, which no lost power could do.
    moment = told.so_far()
    disk.lose_power()
    for caller in callers:
        caller.end(kill=True)
    told.forget_after(moment)
    uploader.kill()
    uploader.wait(20)
    close_pipes(uploader)
    disk.unmount()
    disk.restore_power()
    switch = KillSwitchFile(ledger.spool)
    assert turned is None or switch.read().on == turned
    switch.turn(on=False, reason="", by="operator", now=NOW)


def _leave_a_damaged_line(spool: Spool, number: int) -> bytes:
    """A sealed segment on stable storage with one line that can only be dead-lettered."""
    line = damaged(sample_event(number).line)
    name = SegmentName(time.time_ns() // 1_000_000, "0123456789ab", number, None)
    write_small_file(spool.queue / name.sealed(1), line)
    return line


def test_a_queue_that_does_not_flush_loses_what_it_acknowledged(ledger: Ledger, disk: PowerLossDisk) -> None:
    script = str(Path(__file__).with_name("careless_server.py"))
    told = Told()
    ledger.spool  # noqa: B018 - makes the folder
    caller = Caller(ledger.start("serve", "--no-uploader", script=script), told, "careless", random.Random(1))
    wait_until(lambda: caller.acked > 20, "it acknowledges")
    moment = told.so_far()
    disk.lose_power()
    caller.end(kill=True)
    told.forget_after(moment)
    disk.unmount()
    disk.restore_power()
    left = b"".join(path.read_bytes() for path in ledger.spool.queue.iterdir())
    assert [name for name in told.acked if name.encode() not in left]
