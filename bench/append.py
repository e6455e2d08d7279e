"""Durable appends against a raw write and flush of the same bytes, in one run: ``python bench/append.py``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import anyio
from bench.harness import make_event, start

from snowledger_queue import QueueWriter, open_spool, open_writer

ROUNDS = 5
"""Floors and ours alternate, and the median counts, for the machine's noise comes in seconds."""

CALLERS = 100
SEQUENTIAL_TARGET, CONCURRENT_TARGET, HUNDREDS_TARGET = 0.5, 30_000, 150_000


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=2_000, help="appends in a round, sequentially (default 2000)")


def _raw(folder: Path, data: bytes, times: int) -> float:
    """Write and flush ``data`` so often; return writes per second."""
    descriptor = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
    started = time.perf_counter()
    for _ in range(times):
        os.write(descriptor, data)
        os.fdatasync(descriptor)
    elapsed = time.perf_counter() - started
    os.close(descriptor)
    return times / elapsed


async def _sequential(writer: QueueWriter, times: int) -> float:
    events = [make_event(number) for number in range(times)]
    started = time.perf_counter()
    for event in events:
        await writer.append([event])
    return times / (time.perf_counter() - started)


async def _concurrent(writer: QueueWriter, times: int) -> float:
    async def caller(number: int) -> None:
        for _ in range(times // CALLERS):
            await writer.append([make_event(number)])

    started = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for number in range(CALLERS):
            tasks.start_soon(caller, number)
    return times / (time.perf_counter() - started)


async def _hundreds(writer: QueueWriter, times: int) -> float:
    events = [make_event(number) for number in range(100)]
    started = time.perf_counter()
    for _ in range(times):
        await writer.append(events)
    return times * 100 / (time.perf_counter() - started)


async def _measure(home: Path, count: int) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {"raw": [], "raw100": [], "one": [], "many": [], "hundred": []}
    line = make_event(0).line
    async with open_writer(open_spool(home / "spool")) as writer:
        for _ in range(ROUNDS):
            figures["raw"].append(_raw(home, line, count))
            figures["one"].append(await _sequential(writer, count))
            figures["raw100"].append(_raw(home, line * 100, count // 4) * 100)
            figures["hundred"].append(await _hundreds(writer, count // 4))
            figures["many"].append(await _concurrent(writer, count * 10))
    return figures


def main() -> int:
    report, options = start("Durable appends", _options)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        figures = anyio.run(_measure, Path(folder).resolve(), options.events)
    raw, raw100, one, many, hundred = (median(values) for values in figures.values())
    report.row("event size", len(make_event(0).line), "bytes")
    report.row("floor: raw write + fdatasync, one event", raw, "events/s")
    report.row("sequential appends, one event each", one, "events/s")
    report.row("  ratio to the floor", one / raw, "", f">= {SEQUENTIAL_TARGET}", met=one / raw >= SEQUENTIAL_TARGET)
    report.row(
        f"{CALLERS} concurrent callers, making their events",
        many,
        "events/s",
        f">= {CONCURRENT_TARGET:,}",
        met=many >= CONCURRENT_TARGET,
    )
    report.row("  ratio to the floor", many / raw, "")
    report.row("floor: raw write + fdatasync, 100 events", raw100, "events/s")
    report.row(
        "100 events in one append",
        hundred,
        "events/s",
        f">= {HUNDREDS_TARGET:,}",
        met=hundred >= HUNDREDS_TARGET,
    )
    report.row("  ratio to the floor", hundred / raw100, "")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
