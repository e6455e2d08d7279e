"""The uploader that `serve` starts by itself: one for all servers, replaced when it dies, gone when they are."""

import errno
import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from mcp import Client
from tests.acceptance.ledger import Ledger, wait_until
from tests.server.server_samples import EVENT

from snowledger_queue import lock_holder
from snowledger_server import _uploader_process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


async def eventually(condition: Callable[[], object]) -> None:
    await anyio.to_thread.run_sync(wait_until, condition)


def uploaders(ledger: Ledger) -> list[psutil.Process]:
    return ledger.processes("snowledger upload")


async def test_two_servers_share_one_uploader_which_ends_after_them(ledger: Ledger) -> None:
    async with Client(ledger.server(), mode="legacy") as first, Client(ledger.server(), mode="auto") as second:
        for client in (first, second):
            assert not (await client.call_tool("log_event", EVENT)).is_error
        await eventually(lambda: len(ledger.delivered()) == 2)
        await eventually(lambda: len(uploaders(ledger)) == 1)
        [uploader] = uploaders(ledger)
        holder = lock_holder(ledger.spool.uploader_lock)
        assert holder is not None
        assert holder["pid"] == uploader.pid
        assert not (await first.call_tool("log_event", EVENT)).is_error
    await eventually(lambda: ledger.processes() == [])
    assert len(ledger.delivered()) == 3
    assert ledger.queued() == []


async def test_the_uploader_reads_the_settings_file_that_its_server_reads(ledger: Ledger) -> None:
    """The server's folder is the client's, the uploader's is the spool."""
    (ledger.folder / "mine.toml").write_text('log_level = "error"\n')
    async with Client(ledger.server(SNOWLEDGER_CONFIG="mine.toml"), mode="auto") as client:
        assert not (await client.call_tool("log_event", EVENT)).is_error
        await eventually(lambda: len(ledger.delivered()) == 1)
    await eventually(lambda: ledger.processes() == [])
    assert (ledger.home / "uploader.log").read_text() == "", "what is below the level is not logged"


@pytest.mark.parametrize("how", ["variable", "flag"])
async def test_no_uploader_is_started_when_told(ledger: Ledger, how: str) -> None:
    parameters = ledger.server(SNOWLEDGER_AUTO_UPLOADER="0") if how == "variable" else ledger.server("--no-uploader")
    async with Client(parameters, mode="legacy") as client:
        assert not (await client.call_tool("log_event", EVENT)).is_error
        await eventually(ledger.queued)
        assert uploaders(ledger) == []
        assert not ledger.spool.uploader_lock.exists()


async def test_a_killed_uploader_is_replaced(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], _folder: Path) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(command, env=ledger.environment, start_new_session=True))
        return started[-1]

    monkeypatch.setattr(_uploader_process, "CHECK_S", 0.05)
    monkeypatch.setattr(_uploader_process, "_start", start)
    spool = ledger.spool

    def holder() -> object:
        return (lock_holder(spool.uploader_lock) or {}).get("pid")

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_uploader_process.keep_uploader, spool, [sys.executable, "-m", "snowledger", "upload"])
            await eventually(holder)
            assert holder() == started[0].pid
            started[0].kill()
            await eventually(lambda: holder() not in {None, started[0].pid})
            assert holder() == started[-1].pid
            tasks.cancel_scope.cancel()
    finally:
        for process in started:
            process.kill()
            process.wait()


async def test_a_command_that_cannot_start_is_tried_ever_more_rarely(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_uploader_process, "CHECK_S", 0.005)
    monkeypatch.setattr(_uploader_process, "MAX_CHECK_S", 0.08)
    tries: list[float] = []

    def fail(_command: object, _folder: object) -> None:
        tries.append(time.monotonic())
        if len(tries) == 7:
            tasks.cancel_scope.cancel()
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(_uploader_process, "_start", fail)
    async with anyio.create_task_group() as tasks:
        # The attempts come from worker threads, but the cancellation must not.
        monkeypatch.setattr("snowledger_server._uploader_process.to_thread.run_sync", call_here)
        await _uploader_process.keep_uploader(ledger.spool, ["unused"])
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert gaps[0] < 0.08 <= min(gaps[-2:])


async def call_here(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(*arguments)


async def test_a_lock_that_cannot_be_looked_at_does_not_end_the_server(ledger: Ledger) -> None:
    target = ledger.folder / "elsewhere"
    target.touch()
    ledger.spool.uploader_lock.symlink_to(target)
    async with Client(ledger.server(), mode="legacy") as client:
        for _ in range(3):
            assert not (await client.call_tool("log_event", EVENT)).is_error
        await eventually(lambda: len(ledger.queued()) == 3)
