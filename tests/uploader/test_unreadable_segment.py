"""A segment that the disk cannot read: it stays where it is, the others load, and it loads once it can be read."""

import os
import shutil
import subprocess
import sys

import pytest
from tests.acceptance.ledger import Ledger
from tests.uploader.uploader_samples import sample_lines, seal


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_segment_whose_disk_fails_is_kept_and_holds_nobody_up(ledger: Ledger) -> None:
    bad = seal(ledger.spool, sample_lines(2), 1)
    seal(ledger.spool, sample_lines(2, 2), 2)
    inject = ("-e", "trace=read,pread64", "-e", "inject=read,pread64:error=EIO")
    strace = ("strace", "-f", "-qqq", "-o", os.devnull, "-P", bad.path, *inject)
    done = subprocess.run(
        [*strace, sys.executable, "-m", "snowledger", "upload", "--once"],
        env=ledger.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 1
    assert f"cannot read {bad.path.name}, left where it is: [Errno 5] Input/output error" in done.stderr
    assert [found.path for found in ledger.spool.sealed_segments()] == [bad.path]
    assert len(ledger.delivered()) == 2
    assert ledger.dead_letters() == []
    ledger.run("upload", "--once")
    assert len(ledger.delivered()) == 4
    assert ledger.spool.sealed_segments() == []
