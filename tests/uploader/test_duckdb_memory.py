"""The memory limit of a load, whatever the machine and the events."""

import os
from pathlib import Path

import anyio
import pytest
from tests.uploader.uploader_samples import ORIGIN, batch_of, sample_event, seal

from snowledger_queue import Spool
from snowledger_uploader import Delivery, Drain, DuckDBWarehouse


async def test_a_machine_with_many_cores_loads_within_the_memory_limit(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    lines = [sample_event(number, text="x" * 1000).line for number in range(20_000)]
    batch = batch_of(tmp_path, *(lines[start : start + 2_500] for start in range(0, 20_000, 2_500)))
    warehouse = DuckDBWarehouse(tmp_path / "w.duckdb", spool.work, ORIGIN)
    await warehouse.open()
    assert (await warehouse.load(batch)).inserted == 20_000
    await warehouse.close()


async def test_a_batch_that_does_not_fit_into_memory_is_halved_until_it_does(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("snowledger_uploader._duckdb._file.MEMORY_LIMIT", "160MB")
    monkeypatch.setattr("snowledger_uploader._drain.FIRST_BATCH", 1)
    for sequence in range(8):
        texts = (os.urandom(60_000).hex() for _ in range(80))
        seal(spool, [sample_event(sequence * 80 + n, text=text).line for n, text in enumerate(texts)], sequence)
    warehouse = DuckDBWarehouse(tmp_path / "w.duckdb", spool.work, ORIGIN)
    drain = Drain(spool, warehouse, Delivery(warehouse, anyio.Event(), lambda _problem: None), 5.0)
    inserted = 0
    while segments := await drain.waiting():
        inserted += (await drain.drain_batch(segments)).inserted
    await warehouse.close()
    assert inserted == 640
    assert "is halved" in caplog.text
