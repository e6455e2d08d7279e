"""log_event, get_context and submit_query over stdio against a no-op tool: ``python bench/latency.py``.

The client is a bare pipe, so that its own cost does not flatter the ratio. Blocks of calls to both servers alternate;
between them lie bare flushes and commits.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
from bench.harness import make_event, make_insight, percentile, start
from bench.stdio_client import LEGACY, MODERN, StdioClient

from snowledger_queue import Tickets, open_spool, open_writer, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.harness import Report

BLOCK = 100
"""Calls before the other server's turn."""

CONTEXT_BYTES = 16 * 1024
INSIGHTS = 100
"""More than fit into 16 KiB, so that the answer is as large as it may be."""


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=4_000, help="calls to each server in each era (default 4000)")


class Times(NamedTuple):
    """Milliseconds of each call."""

    noop: list[float]
    flush: list[float]
    """One fdatasync of an event's bytes."""
    log_event: list[float]
    get_context: list[float]
    commit: list[float]
    """One SQLite commit of a ticket's bytes."""
    submit_query: list[float]


class Tool(NamedTuple):
    """How long a tool's calls took, and what it is measured against."""

    name: str
    taken: list[float]
    target_ms: int
    against: str
    floor_ms: float
    ratio_target: float

    def report(self, report: Report, era: str) -> None:
        p95 = percentile(self.taken, 95)
        ratio = p95 / self.floor_ms
        report.row(f"{era}: {self.name}, p50", percentile(self.taken, 50), "ms")
        report.row(f"{era}: {self.name}, p95", p95, "ms", f"< {self.target_ms} ms", met=p95 < self.target_ms)
        report.row(f"{era}: {self.name}, p99", percentile(self.taken, 99), "ms")
        target = f"<= {self.ratio_target}"
        report.row(f"{era}:   p95 ratio to {self.against}", ratio, "", target, met=ratio <= self.ratio_target)


def _calls(client: StdioClient, tool: str, arguments: dict[str, Any]) -> Iterator[float]:
    """Call the tool a block of times; yield each call's milliseconds."""
    for _ in range(BLOCK):
        yield client.timed("tools/call", name=tool, arguments=arguments)[0]


def _flush(descriptor: int, line: bytes) -> float:
    os.write(descriptor, line)
    begun = time.perf_counter()
    os.fdatasync(descriptor)
    return (time.perf_counter() - begun) * 1000


def _commit(database: sqlite3.Connection, row: bytes) -> float:
    begun = time.perf_counter()
    database.execute("INSERT INTO tickets VALUES (?)", (row,))  # commits by itself
    return (time.perf_counter() - begun) * 1000


def _open_database(path: Path) -> sqlite3.Connection:
    """A database in the mode of state.db."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE tickets (content BLOB)")
    return database


def _row_bytes(tickets: Tickets) -> int:
    [ticket] = tickets.list(None, 1)
    return sum(len(str(value)) for value in ticket if value is not None)


def _submissions(client: StdioClient, tickets: Tickets, block: int) -> Iterator[float]:
    """Submit a block of queries, no two alike; they are cancelled afterwards, for a customer may have a hundred."""
    for number in range(BLOCK):
        arguments = {"template": "activity_counts", "params": {"since": 3_600 + block * BLOCK + number}}
        yield client.timed("tools/call", name="submit_query", arguments=arguments)[0]
    now = timestamp(datetime.now(UTC))
    for on in (True, False):
        tickets.set_kill_switch(on=on, reason="the next block", by="operator", now=now)


async def _fill(home: Path, customer: str) -> None:
    """Log insights, for a context of more than 16 KiB."""
    insights = [make_insight(number, customer) for number in range(INSIGHTS)]
    async with open_writer(open_spool(home)) as writer:
        await writer.append(insights)


def _measure(era: str, home: Path, calls: int) -> Times:
    environment = {"SNOWLEDGER_HOME": str(home / era), "SNOWLEDGER_CUSTOMER": "bench"}
    anyio.run(_fill, home / era, "bench")
    subprocess.run(
        [sys.executable, "-m", "snowledger", "upload", "--once"],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    noop = StdioClient(era, "-m", "bench.noop_server", environment={})
    ours = StdioClient(era, "-m", "snowledger", "serve", "--no-uploader", environment=environment)
    descriptor = os.open(home / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    line = make_event(0).line
    event = {"activity": "cdesk.tool_called", "feature_json": {"tool": "search", "latency_ms": 412, "ok": True}}
    context = {"max_bytes": CONTEXT_BYTES}
    times = Times([], [], [], [], [], [])
    tickets = Tickets(open_spool(home / era))
    database = _open_database(home / f"{era}.db")
    try:
        size = len(ours.request("tools/call", name="get_context", arguments=context)["result"]["content"][0]["text"])
        if not CONTEXT_BYTES * 0.95 < size <= CONTEXT_BYTES:
            raise RuntimeError(f"the context has {size} bytes")
        list(_calls(noop, "noop", event))  # warm all
        list(_calls(ours, "log_event", event))
        list(_calls(ours, "get_context", context))
        list(_submissions(ours, tickets, 0))
        row = b"x" * _row_bytes(tickets)
        for block in range(1, calls // BLOCK + 1):
            for taken in _calls(noop, "noop", event):
                times.noop.append(taken)
                # Between calls as well, for a flush after a pause is slower than one in a tight loop.
                times.flush.append(_flush(descriptor, line))
            for _ in _calls(noop, "noop", event):
                times.commit.append(_commit(database, row))
            times.submit_query.extend(_submissions(ours, tickets, block))
            times.log_event.extend(_calls(ours, "log_event", event))
            # The first is not warm: it sees what the calls before it have logged.
            ours.request("tools/call", name="get_context", arguments=context)
            times.get_context.extend(_calls(ours, "get_context", context))
    finally:
        tickets.close()
        database.close()
        os.close(descriptor)
        noop.close()
        ours.close()
    return times


def main() -> int:
    report, options = start("Latency of log_event, get_context and submit_query over stdio", _options)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for era in (LEGACY, MODERN):
            times = _measure(era, Path(folder).resolve(), options.calls)
            noop_p95, flush_p95 = percentile(times.noop, 95), percentile(times.flush, 95)
            commit_p95 = percentile(times.commit, 95)
            report.row(f"{era}: no-op tool, p50", percentile(times.noop, 50), "ms")
            report.row(f"{era}: no-op tool, p95", noop_p95, "ms")
            report.row(f"{era}: one fdatasync, p95", flush_p95, "ms")
            report.row(f"{era}: one SQLite commit, p95", commit_p95, "ms")
            for tool in (
                Tool("log_event", times.log_event, 10, "no-op + fdatasync", noop_p95 + flush_p95, 2.0),
                Tool("get_context", times.get_context, 25, "no-op, warm, 16 KiB", noop_p95, 1.3),
                Tool("submit_query", times.submit_query, 50, "no-op + SQLite commit", noop_p95 + commit_p95, 2.0),
            ):
                tool.report(report, era)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
