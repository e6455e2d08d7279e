"""Loading into Snowflake, on the fake server: ``python bench/snowflake_load.py``.

It shows what the adapter itself costs: the uploader runs in a process of its own, and what it waits for Snowflake is
subtracted. Rates are the fake's and say nothing of Snowflake. ``--faults`` loads as many events while every fault comes
up at every step in turn; ``--backlog-mb 1024`` measures the memory for a backlog.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import anyio
from bench.drain import SEGMENT_EVENTS, make_backlog
from bench.harness import Report, make_event, start
from tests.fake_snowflake.control import PASSWORD, FakeSnowflake, FaultKind
from tests.uploader.snowflake_samples import CONFIG, PLACE, make_ready
from tests.uploader.test_snowflake_faults import FAULTS, SERVER_BUSY, STEPS

from snowledger_queue import SegmentName, Spool, open_spool
from snowledger_uploader import Delivery, Drain, SnowflakeWarehouse, UploaderConfig, run
from snowledger_uploader._back_end import make_origin
from snowledger_uploader._snowflake import _session

MORE_FAULTS: tuple[tuple[FaultKind, Literal["before", "after"]], ...] = (
    ("503", "before"),
    ("429", "before"),
    ("429", "after"),
    ("expired", "before"),
)
"""Beside those of the tests."""

COST_TARGET_US, STATEMENT_TARGET, MEMORY_TARGET_MB = 10.0, 8, 512


class Load(NamedTuple):
    """What one load took."""

    seconds: float
    waited_s: float
    """Of that, for Snowflake."""
    processor_s: float
    peak_mb: float
    events: int
    batches: int


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=200_000, help="events to load (default 200,000)")
    parser.add_argument("--faults", action="store_true", help="every fault at every step in turn")
    parser.add_argument("--backlog-mb", type=int, default=0, help="also load a backlog of that size")
    parser.add_argument("--child", metavar="SPOOL", help=argparse.SUPPRESS)


def _config(home: Path) -> UploaderConfig:
    return UploaderConfig(home, home / "unused.duckdb", "bench", snowflake=CONFIG, once=True)


def _child(home: Path) -> int:
    """Drain a spool in this process and print what it took."""
    waited = 0.0
    bounded = _session._bounded  # noqa: SLF001 - where all waiting is

    async def timed(*arguments: Any) -> Any:
        nonlocal waited
        began = time.perf_counter()
        try:
            return await bounded(*arguments)
        finally:
            waited += time.perf_counter() - began

    _session.__dict__["_bounded"] = timed
    import snowflake.connector.aio  # noqa: F401 - its import is no part of a load

    began, processor = time.perf_counter(), time.process_time()
    status = run(_config(home))
    took, used = time.perf_counter() - began, time.process_time() - processor
    peak = Path("/proc/self/status").read_text(encoding="ascii").split("VmHWM:")[1].split()[0]
    print(json.dumps(Load(took, waited, used, int(peak) / 1024, status.events, status.batches)))
    return 0


def _load(spool: Spool) -> Load:
    command = [sys.executable, "-m", "bench.snowflake_load", "--child", str(spool.home)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Load(*json.loads(done.stdout.splitlines()[-1]))


def _fill(spool: Spool, folder: Path, events: int) -> None:
    make_backlog(folder, events)
    for file in folder.iterdir():
        file.rename(spool.queue / file.name)
    folder.rmdir()


def _held(fake: FakeSnowflake) -> tuple[int, int, int]:
    """Events without receipts, different ones of them, ids without receipts'."""
    sql = f"""
        SELECT count(*), count(DISTINCT activity_id),
            (SELECT count(*) FROM {PLACE}."_INGEST_IDS" WHERE activity_id IN
                (SELECT activity_id FROM {PLACE}."RAW_EVENTS" WHERE payload::VARCHAR NOT LIKE '%"snowledger"%'))
        FROM {PLACE}."RAW_EVENTS" WHERE payload::VARCHAR NOT LIKE '%"snowledger"%'
    """  # noqa: S608
    ((rows, different, ids),) = fake.sql(sql)
    return rows, different, ids


def _measure(report: Report, fake: FakeSnowflake, folder: Path, events: int, name: str) -> None:
    spool = open_spool(folder / "spool")
    _fill(spool, folder / "backlog", events)
    distinct = len({line[16:48] for file in spool.queue.iterdir() for line in file.read_bytes().splitlines()})
    fake.clear()
    make_ready(fake)
    fake.forget()
    load = _load(spool)
    statements = Counter(found.query_tag for found in fake.statements())
    del statements["cdesk_00000000"]  # of no batch
    rows, different, ids = _held(fake)
    report.row(f"{name}: events loaded", load.events, "events", f"= {events:,}", met=load.events == events)
    report.row(
        "  in the warehouse, each once", rows, "rows", f"= {distinct:,}", met=rows == different == ids == distinct
    )
    report.row("  batches", load.batches, "")
    most = max(statements.values())
    report.row("  statements of a batch, at most", most, "", f"<= {STATEMENT_TARGET}", met=most <= STATEMENT_TARGET)
    report.row("  on the fake, which is no measure of Snowflake", events / load.seconds, "events/s")
    cost = (load.seconds - load.waited_s) / events * 1e6
    report.row(
        "  without the time it waits for Snowflake",
        cost,
        "us/event",
        f"< {COST_TARGET_US:g}",
        met=cost < COST_TARGET_US,
    )
    cost = load.processor_s / events * 1e6
    report.row("  processor time of the uploader", cost, "us/event", f"< {COST_TARGET_US:g}", met=cost < COST_TARGET_US)
    report.row("  peak memory", load.peak_mb, "MB", f"< {MEMORY_TARGET_MB}", met=load.peak_mb < MEMORY_TARGET_MB)


async def _faults(report: Report, fake: FakeSnowflake, spool: Spool, events: int) -> None:
    """Load the events in as many lots as there are faults; each lot meets its own, and repeats some of the last."""
    cases = [(step, *fault) for step in STEPS for fault in (*FAULTS, *MORE_FAULTS)]
    _session.ATTEMPTS = 1  # the connector's own retries would hide most of them
    logging.disable()  # each of them is logged
    config = _config(spool.home)
    acked: set[str] = set()
    last: list[bytes] = []
    wrong = unseen = 0
    size = -(-events // len(cases))
    for number, (step, kind, when) in enumerate(cases):
        lot = [make_event(number * size + index) for index in range(size)]
        acked |= {event.activity_id for event in lot}
        lines = [event.line for event in lot]
        name = SegmentName(time.time_ns() // 1_000_000, "0" * 12, number, None)
        (spool.queue / name.sealed(size + len(last[:50]))).write_bytes(b"".join([*lines, *last[:50]]))
        last = lines
        fake.fault(step, kind, when=when, code=SERVER_BUSY, message="busy")
        warehouse = SnowflakeWarehouse(CONFIG, spool, make_origin(config))
        drain = Drain(spool, warehouse, Delivery(warehouse, anyio.Event(), lambda _error: None), 20.0)
        await drain.drain_batch(await drain.waiting())
        await warehouse.rest(over=True)
        unseen += fake.faults_left()
        wrong += _held(fake) != (len(acked), len(acked), len(acked))
    report.row(
        f"faults: {len(acked):,} events, faults that came up",
        len(cases) - unseen,
        "",
        f"= {len(cases)}",
        met=not unseen,
    )
    report.row("  looks at the warehouse that found something wrong", wrong, "", "= 0", met=not wrong)


def main() -> int:
    report, options = start("Loading into Snowflake, on the fake server", _options)
    if options.child:
        return _child(Path(options.child))
    with tempfile.TemporaryDirectory(dir=".") as name, FakeSnowflake() as fake:
        folder = Path(name).resolve()
        os.environ["SNOWFLAKE_HOME"] = str(folder)
        # A token, for a password is warned about.
        fake.write_connections_toml(folder, password=None, authenticator="PROGRAMMATIC_ACCESS_TOKEN", token=PASSWORD)
        _measure(report, fake, folder, options.events, f"{options.events:,} events")
        if options.faults:
            fake.clear()
            make_ready(fake)
            anyio.run(_faults, report, fake, open_spool(folder / "faults"), options.events)
        if options.backlog_mb:
            events = options.backlog_mb * 1024**2 // 378 // SEGMENT_EVENTS * SEGMENT_EVENTS
            _measure(report, fake, folder / "large", events, f"{options.backlog_mb} MB")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
