"""The watchdog is fed by progress of the loading side, and by nothing else."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from tests.uploader.fake_warehouse import FakeWarehouse
from tests.uploader.query_samples import ended, submitted
from tests.uploader.service_manager import service_manager
from tests.uploader.uploader_samples import PATIENCE_S, sample_lines, seal

from snowledger_queue import Origin, ProcessLock, Spool, _notify
from snowledger_uploader import (
    Batch,
    Delivery,
    Drain,
    DuckDBWarehouse,
    Receipt,
    UploaderConfig,
    WarehouseUnavailableError,
    _run,
)
from snowledger_uploader._watched import WatchedWarehouse


@dataclass
class Progress:
    steps: int = 0

    def __call__(self) -> None:
        self.steps += 1


@dataclass
class Gate:
    """Where a load hangs until somebody opens."""

    reached: anyio.Event = field(default_factory=anyio.Event)
    opened: anyio.Event = field(default_factory=anyio.Event)

    async def pass_through(self) -> None:
        self.reached.set()
        await self.opened.wait()


class HangingFake(FakeWarehouse):
    gate: Gate

    async def load(self, batch: Batch) -> Receipt:
        await self.gate.pass_through()
        return await super().load(batch)


class HangingDuckDB(DuckDBWarehouse):
    gate: Gate

    async def load(self, batch: Batch) -> Receipt:
        await self.gate.pass_through()
        return await super().load(batch)


def drain_of(spool: Spool, warehouse: WatchedWarehouse) -> Drain:
    return Drain(spool, warehouse, Delivery(warehouse, anyio.Event(), lambda _problem: None), PATIENCE_S)


async def test_every_batch_is_progress(spool: Spool) -> None:
    for number in range(5):
        seal(spool, sample_lines(2, number * 2), number)
    fake = FakeWarehouse(batch_files=1)
    progress = Progress()
    drain = drain_of(spool, WatchedWarehouse(fake, progress))
    steps = []
    while segments := await drain.waiting():
        await drain.drain_batch(segments)
        steps.append(progress.steps)
    assert len(fake.loads) == 5
    assert steps == sorted(set(steps))


async def test_a_load_that_hangs_is_no_progress_until_it_goes_on(spool: Spool) -> None:
    segment = seal(spool, sample_lines(2))
    fake = HangingFake()
    fake.gate = gate = Gate()
    progress = Progress()
    drain = drain_of(spool, WatchedWarehouse(fake, progress))
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain.drain_batch, [segment])
            await gate.reached.wait()
            before = progress.steps
            await anyio.wait_all_tasks_blocked()
            assert progress.steps == before
            gate.opened.set()
    assert progress.steps > before
    assert len(fake.rows) == 2


async def test_a_call_that_failed_has_ended_too() -> None:
    fake = FakeWarehouse(unavailable=1)
    progress = Progress()
    watched = WatchedWarehouse(fake, progress)
    await watched.open()
    assert progress.steps == 1
    with pytest.raises(WarehouseUnavailableError):
        await watched.load(Batch("0" * 64, (), 0, 0))
    assert progress.steps == 2
    await watched.find_receipt("0" * 64)
    await watched.changes(None)
    assert progress.steps == 4


@pytest.mark.skipif(sys.platform == "win32", reason="AF_UNIX datagrams are POSIX")
async def test_queries_and_the_process_s_other_work_do_not_hide_a_load_that_hangs(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_notify, "PROGRESS_S", 0.0)
    gate = Gate()

    def make_warehouse(config: UploaderConfig, spool: Spool, origin: Origin, _on_schema: object) -> HangingDuckDB:
        warehouse = HangingDuckDB(config.duckdb_path, spool.work, origin)
        warehouse.gate = gate
        return warehouse

    monkeypatch.setattr(_run, "make_warehouse", make_warehouse)
    seal(spool, sample_lines(2))
    lock = ProcessLock.acquire(spool.uploader_lock, "uploader")
    with service_manager() as manager, anyio.fail_after(3 * PATIENCE_S):
        config = UploaderConfig(
            home=spool.home, duckdb_path=tmp_path / "w.duckdb", version="1", notify_socket=manager.address
        )
        uploader = _run._Uploader(config, spool, lock, None)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(uploader.run)
                await gate.reached.wait()
                assert manager.hears("WATCHDOG=1")
                manager.forget()
                answered = await ended(spool, submitted(spool, "activity_counts"))
                assert answered.status == "succeeded"
                assert not manager.hears("WATCHDOG=1")
                gate.opened.set()
                await to_thread.run_sync(manager.wait_for, "WATCHDOG=1")
                uploader._stop.set()
        finally:
            lock.release()
