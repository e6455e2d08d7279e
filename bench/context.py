"""get_context where it is not warm, and what keeping contexts costs: ``python bench/context.py``.

- the first read of a customer with 100,000 customers in state.db
- reads while an uploader drains a backlog and refreshes 1,000 customers
- the server's memory over a million calls about 100,000 customers, a thousand of them often
- a refresh with 100,000 and with 10,000,000 events in the warehouse
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import anyio
import orjson
import psutil
from bench.drain import make_backlog, preload
from bench.harness import ORIGIN, make_event, make_insight, percentile, start
from bench.stdio_client import LEGACY, StdioClient

from snowledger_queue import Changes, ContextStore, Spool, new_event, open_spool
from snowledger_uploader import Batch, DuckDBWarehouse, content_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.harness import Report

CUSTOMERS = 100_000
INSIGHTS = 10
"""Of each customer."""

DRAINED_CUSTOMERS = 1_000
"""What ``make_event`` makes."""

COLD_TARGET_MS, DRAIN_TARGET_MS, GROWTH_TARGET_MB, REFRESH_TARGET = 5.0, 25.0, 16, 1.5
IN_FLIGHT = 64
REFRESH_EVENTS = 1_000


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reads", type=int, default=5_000, help="first reads of a customer (default 5000)")
    parser.add_argument("--events", type=int, default=3_000_000, help="backlog to drain meanwhile (default 3,000,000)")
    parser.add_argument("--calls", type=int, default=1_000_000, help="calls for the memory (default 1,000,000)")
    parser.add_argument("--rows", type=int, default=10_000_000, help="the larger warehouse (default 10,000,000)")


def _fill(home: Path) -> None:
    """A state.db with ten insights and ten events of each of many customers."""
    store = ContextStore.open(open_spool(home))
    now = _now()
    for first in range(0, CUSTOMERS, 1_000):
        names = [f"customer-{number:06d}" for number in range(first, first + 1_000)]
        lines = [line for name in names for line in _lines(name)]
        counts = [(name, now[:13], activity, 10) for name in names for activity in ("cdesk.a", "cdesk.b")]
        store.fold(Changes(str(first), reset=False, more=False, counts=counts, lines=lines), now)
    store.confirm(now, [])
    store.close()


def _now() -> str:
    """Now, as in an event."""
    return make_event(0).ts


def _lines(customer: str) -> Iterator[bytes]:
    for number in range(INSIGHTS):
        yield make_insight(number, customer).line
        yield new_event(ORIGIN, activity="cdesk.a", customer=customer, feature_json={"turn": number}).line


def _serve(folder: Path, home: Path, customers: list[str]) -> StdioClient:
    """A server that may read all of them."""
    config = folder / f"{home.name}.toml"
    config.write_text(f"allowed_customers = {orjson.dumps(customers).decode()}\n", encoding="utf-8")
    environment = {
        "SNOWLEDGER_HOME": str(home),
        "SNOWLEDGER_CUSTOMER": "bench",
        "SNOWLEDGER_CONFIG": str(config),
        "SNOWLEDGER_LOG_LEVEL": "error",
    }
    return StdioClient(LEGACY, "-m", "snowledger", "serve", "--no-uploader", environment=environment)


def _read(client: StdioClient, customer: str) -> float:
    return client.timed("tools/call", name="get_context", arguments={"customer_id": customer})[0]


def _cold(report: Report, folder: Path, reads: int) -> None:
    home = folder / "many"
    _fill(home)
    customers = [f"customer-{number:06d}" for number in range(CUSTOMERS)]
    client = _serve(folder, home, customers)
    try:
        _read(client, "bench")  # opens state.db
        taken = [_read(client, customer) for customer in random.Random(1).sample(customers, reads)]
    finally:
        client.close()
    report.row(f"first read of a customer, {CUSTOMERS:,} in state.db: p50", percentile(taken, 50), "ms")
    p95 = percentile(taken, 95)
    report.row("  p95", p95, "ms", f"< {COLD_TARGET_MS:.0f} ms", met=p95 < COLD_TARGET_MS)
    report.row("  p99", percentile(taken, 99), "ms")


def _memory(report: Report, folder: Path, calls: int) -> None:
    customers = [f"customer-{number:06d}" for number in range(CUSTOMERS)]
    client = _serve(folder, folder / "many", customers)
    asked = _asked(customers)
    process = psutil.Process(client.pid)
    sizes: list[float] = []
    started = time.perf_counter()
    try:
        for done in range(0, calls, calls // 20):
            client.pipeline(
                ({"name": "get_context", "arguments": {"customer_id": next(asked)}})
                for _ in range(min(calls // 20, calls - done))
            )
            sizes.append(process.memory_info().rss / 2**20)
    finally:
        client.close()
    report.row(f"{calls:,} calls, {IN_FLIGHT} in flight", calls / (time.perf_counter() - started), "calls/s")
    report.row("  server's memory after a tenth of them", sizes[1], "MB")
    growth = sizes[-1] - sizes[1]
    report.row("  its growth since then", growth, "MB", f"< {GROWTH_TARGET_MB}", met=growth < GROWTH_TARGET_MB)


def _asked(customers: list[str]) -> Iterator[str]:
    """One call of ten is about the next of all customers, the others about a hundredth of them."""
    chance = random.Random(2)
    chance.shuffle(customers)
    busy = customers[: len(customers) // 100]
    for customer in cycle(customers):
        yield customer
        yield from chance.choices(busy, k=9)


def _while_draining(report: Report, folder: Path, events: int) -> None:
    make_backlog(folder / "backlog", events)
    spool = open_spool(folder / "busy")
    for file in (folder / "backlog").iterdir():
        shutil.move(file, spool.queue)
    customers = [f"customer-{number:03d}" for number in range(DRAINED_CUSTOMERS)]
    client = _serve(folder, spool.home, customers)
    chance = random.Random(3)
    taken: list[float] = []
    try:
        begun = time.perf_counter()
        _read(client, customers[0])
        first_s = time.perf_counter() - begun
        command = [sys.executable, "-m", "snowledger", "upload", "--once", "--home", str(spool.home)]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as uploader:
            while uploader.poll() is None:
                taken.append(_read(client, chance.choice(customers)))
        seconds = time.perf_counter() - started
        if uploader.returncode:
            raise RuntimeError(f"the uploader ended with {uploader.returncode}")
    finally:
        client.close()
    report.row(f"first answer of a server that finds {events:,} events in the queue", first_s, "s")
    report.row(f"reads while {events:,} events are drained: drain", events / seconds, "events/s")
    report.row("  p50", percentile(taken, 50), "ms")
    p95 = percentile(taken, 95)
    report.row("  p95", p95, "ms", f"< {DRAIN_TARGET_MS:.0f} ms", met=p95 < DRAIN_TARGET_MS)
    report.row("  longest", max(taken), "ms")


async def _refreshes(folder: Path, rows: int) -> tuple[float, float]:
    """Seconds of the first refresh, which reads all rows; milliseconds of one after a small batch."""
    database = folder / f"{rows}.duckdb"
    preload(database, rows)
    spool: Spool = open_spool(folder / f"refresh-{rows}")
    store = ContextStore.open(spool)
    warehouse = DuckDBWarehouse(database, spool.work, ORIGIN)
    await warehouse.open()
    try:
        begun = time.perf_counter()
        await _refresh(warehouse, store)
        first_s = time.perf_counter() - begun
        taken = []
        for number in range(20):
            lines = [make_event(number * REFRESH_EVENTS + index).line for index in range(REFRESH_EVENTS)]
            path = spool.work / f"{number}.ndjson"
            path.write_bytes(b"".join(lines))
            await warehouse.load(Batch(content_id([os.urandom(32)]), (path,), len(lines), path.stat().st_size))
            begun = time.perf_counter()
            await _refresh(warehouse, store)
            taken.append((time.perf_counter() - begun) * 1000)
        return first_s, median(taken)
    finally:
        await warehouse.close()
        store.close()


async def _refresh(warehouse: DuckDBWarehouse, store: ContextStore) -> None:
    more = True
    while more:
        changes = await warehouse.changes(store.cursor)
        store.fold(changes, _now())
        more = changes.more


def _refresh_cost(report: Report, folder: Path, rows: int) -> None:
    _, small = anyio.run(_refreshes, folder, 100_000)
    first_s, large = anyio.run(_refreshes, folder, rows)
    report.row(f"refresh after {REFRESH_EVENTS:,} events of 1,000 customers, 100,000 in the warehouse", small, "ms")
    report.row(f"  {rows:,} in the warehouse", large, "ms")
    ratio = large / small
    report.row("  ratio", ratio, "", f"<= {REFRESH_TARGET}", met=ratio <= REFRESH_TARGET)
    report.row(f"  contexts made anew from {rows:,} events", first_s, "s")


def main() -> int:
    report, options = start("get_context when it is not warm", _options)
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).resolve()
        _cold(report, folder, options.reads)
        _memory(report, folder, options.calls)
        _while_draining(report, folder, options.events)
        _refresh_cost(report, folder, options.rows)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
