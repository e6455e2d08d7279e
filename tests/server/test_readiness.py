"""Whether a server is ready, on a disk that does not answer."""

import threading
from pathlib import Path

import anyio
import pytest

from snowledger_queue import open_spool
from snowledger_server import _readiness as module
from snowledger_server._readiness import Readiness

UNREADY = ["the spool cannot be written"]


async def test_a_disk_that_hangs_is_told_in_time_and_holds_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.1)
    answers, tries = threading.Event(), []

    def can_write(_: Readiness) -> bool:
        tries.append(1)
        return answers.wait(20)

    readiness = Readiness(open_spool(tmp_path / "spool"))
    assert await readiness.reasons() == []
    monkeypatch.setattr(Readiness, "_can_write", can_write)
    try:
        with anyio.fail_after(5):
            while not tries:
                assert await readiness.reasons() == (UNREADY if tries else [])
            for _ in range(3):
                assert await readiness.reasons() == UNREADY
                await anyio.sleep(0.1)
            assert len(tries) == 1
            answers.set()
            ready = False
            while not ready:
                await anyio.sleep(0.01)
                ready = await readiness.reasons() == []
    finally:
        answers.set()
