"""The uploader killed between any two of its steps, and started again: every event once, and counted once."""

import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.acceptance.ledger import Ledger
from tests.uploader.crashing_uploader import POINTS
from tests.uploader.uploader_samples import counted, damaged, loaded_lines, receipts, sample_event, seal

from snowledger_queue import timestamp

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")

LINES = [sample_event(number, timestamp(datetime.now(UTC))).line for number in range(10)]
SCRIPT = str(Path(__file__).with_name("crashing_uploader.py"))


@pytest.mark.parametrize("point", POINTS)
def test_after_a_crash_at_any_step_every_event_is_loaded_once(ledger: Ledger, point: str) -> None:
    spool = ledger.spool
    bad = damaged(sample_event(99).line)
    seal(spool, LINES[:5], 1)
    seal(spool, [*LINES[5:], bad], 2)
    crashed = subprocess.run([sys.executable, SCRIPT, str(ledger.home), point], check=False, timeout=30)
    assert crashed.returncode == -signal.SIGKILL
    done = ledger.run("upload", "--once")
    # Two more may be what the killed one left of its own: that the schema was applied and that contexts were refreshed.
    assert re.match("loaded ([567]|1[012]) events", done.stdout)
    assert loaded_lines(ledger.warehouse) == LINES
    assert counted(spool) == {"cdesk.user_asked": 10}
    assert receipts(ledger.warehouse) == 1
    assert [letter.original + b"\n" for letter in ledger.dead_letters()] == [bad]
    assert list(spool.queue.iterdir()) == []
    assert list(spool.work.glob("*.ndjson")) == []
