"""Ingestion lag at a steady rate, from acknowledgement to a row in ``activities.events``: ``python bench/lag.py``.

The real ``snowledger upload`` drains; another process's view of the file is polled four times a second, as a
dashboard would. An event counts as visible when a poll sees it, so a figure holds up to one poll too much, and the
polls keep the uploader waiting now and then (DuckDB has one writer or many readers).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
import duckdb
from anyio import to_thread
from bench.harness import make_event, percentile, start

from snowledger_queue import QueueWriter, open_spool, open_writer

POLL_S = 0.25
TICK_S = 0.02
"""Events come in small bursts, fifty a second."""

END_S = 15.0
LAG_TARGET_S = 2.5


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=int, default=1_000, help="events per second (default 1000)")
    parser.add_argument("--seconds", type=int, default=20, help="how long (default 20)")


async def _produce(writer: QueueWriter, rate: int, seconds: int, acked: dict[str, float]) -> None:
    started = time.monotonic()
    for tick in range(int(seconds / TICK_S)):
        events = [make_event(number) for number in range(int(rate * TICK_S))]
        await writer.append(events)
        now = time.monotonic()
        acked.update((event.activity_id, now) for event in events)
        await anyio.sleep(max(0.0, started + (tick + 1) * TICK_S - time.monotonic()))


def _visible(database: Path, seen: set[str]) -> set[str]:
    """The ids that can be queried now and could not before."""
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            found = connection.execute(
                "SELECT activity_id FROM activities.events WHERE activity = 'cdesk.tool_called'"
            ).fetchall()
    except duckdb.Error:  # the uploader has it open
        return set()
    return {row[0] for row in found} - seen


async def _measure(home: Path, rate: int, seconds: int) -> tuple[list[float], int]:
    database = home / "warehouse.duckdb"
    command = [
        sys.executable,
        "-m",
        "snowledger",
        "upload",
        "--home",
        str(home / "spool"),
        "--duckdb-path",
        str(database),
    ]
    acked: dict[str, float] = {}
    seen: set[str] = set()
    lags: list[float] = []
    async with open_writer(open_spool(home / "spool")) as writer:
        with subprocess.Popen(  # noqa: ASYNC220 - started once
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as uploader:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_produce, writer, rate, seconds, acked)
                    deadline = time.monotonic() + seconds + END_S
                    while len(seen) < rate * seconds and time.monotonic() < deadline:
                        await anyio.sleep(POLL_S)
                        fresh = await to_thread.run_sync(_visible, database, seen)
                        now = time.monotonic()
                        lags += [now - acked[activity_id] for activity_id in fresh]
                        seen |= fresh
            finally:
                uploader.terminate()
    return lags, len(acked) - len(seen)


def main() -> int:
    report, options = start("Ingestion lag", _options)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        lags, missing = anyio.run(_measure, Path(folder).resolve(), options.rate, options.seconds)
    report.row("rate", options.rate, "events/s")
    report.row("lag, p50", percentile(lags, 50), "s")
    p95 = percentile(lags, 95)
    report.row("lag, p95", p95, "s", f"< {LAG_TARGET_S} s", met=p95 < LAG_TARGET_S)
    report.row("lag, longest", max(lags), "s")
    report.row("acknowledged and not visible", missing, "events", "= 0", met=missing == 0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
