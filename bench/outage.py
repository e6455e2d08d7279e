"""The warehouse is away for an hour at 1,000 events a second: ``python bench/outage.py``.

The hour is compressed. Of each minute one second's calls go through the server at the real rate, and are timed; the
minute's other events are written beside it as fast as that goes, in segments as the server seals them: of one second's
events in the first minute, and then of ten seconds', for nobody drains. So the queue is in the end what an hour leaves.
Meanwhile another process has the DuckDB file open. The queue's limits are raised (``ROOMY``): by default 50 MiB are the
end, some two minutes of this.

What the outage is compared with is a second server, which has a queue of its own and no uploader, and gets the same
calls for a second of each minute too: what disturbs the machine disturbs both. A disk that now and then takes 50 ms and
more to write still makes the ratio one of its pauses; docs/benchmarks.md says how to run this on one without.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import duckdb
import psutil
from bench.harness import make_event, percentile, start
from bench.stdio_client import LEGACY, StdioClient

from snowledger_queue import RotationPolicy, Spool, open_spool, open_writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.harness import Report

EVENT_BYTES = len(make_event(0).line)
CONTEXT_EVERY = 20
"""One call of so many is a get_context: the server follows the queue only for those."""

CUSTOMERS = 100
"""Whose the events are."""

ROOMY = {
    "MAX_QUEUE_SIZE": "100GiB",
    "BACKPRESSURE_THRESHOLD": "86400000",
    "SNOWLEDGER_BACKPRESSURE_EVENTS": "1000000000",
    "SNOWLEDGER_LOG_LEVEL": "error",
}
RATIO_TARGET, GROWTH_TARGET_MB, DRAIN_TARGET, LOADING_TARGET_MB = 1.2, 32, 0.8, 512
P95_TARGET_MS = 10
PATIENCE_S = 600.0


class Sizes(NamedTuple):
    """Megabytes of memory after a minute of the outage."""

    server: float
    uploader: float


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=int, default=1_000, help="events per second (default 1000)")
    parser.add_argument("--minutes", type=int, default=60, help="of the outage (default 60)")
    parser.add_argument("--before", type=int, default=60, help="seconds measured before it (default 60)")


class Logged:
    """A server that is called at the real rate; the ids that it acknowledges are kept."""

    def __init__(self, home: Path, ids: Path) -> None:
        environment = {**ROOMY, "SNOWLEDGER_HOME": str(home), "SNOWLEDGER_CUSTOMER": "bench"}
        self._client = StdioClient(LEGACY, "-m", "snowledger", "serve", "--no-uploader", environment=environment)
        self.process = psutil.Process(self._client.pid)
        self._ids = ids.open("w", encoding="ascii")

    def seconds(self, rate: int, seconds: int) -> list[float]:
        """Milliseconds of each acknowledgement."""
        calls = [self._call(number) for number in range(rate * seconds)]
        answers = self._client.open_loop(calls, rate)
        taken = []
        for call, (elapsed_ms, answer) in zip(calls, answers, strict=True):
            if answer["result"]["isError"]:
                raise RuntimeError(answer)
            if call["name"] == "log_event":
                taken.append(elapsed_ms)
                self.keep([answer["result"]["structuredContent"]["event_id"]])
        return taken

    def keep(self, ids: list[str]) -> None:
        self._ids.writelines(f"{name}\n" for name in ids)

    def close(self) -> None:
        self._client.close()
        self._ids.close()

    def _call(self, number: int) -> dict[str, Any]:
        if number % CONTEXT_EVERY == 0:
            return {"name": "get_context", "arguments": {}}
        features = {"tool": "grep", "latency_ms": 100 + number % 500, "ok": True}
        return {"name": "log_event", "arguments": {"activity": "cdesk.tool_called", "feature_json": features}}


class _Outage(NamedTuple):
    """What was measured while the warehouse was away."""

    taken: list[float]
    alone: list[float]
    """By the server without an uploader, in the same minutes."""
    last: list[float]
    """Of the last minute, with all the others in the queue."""
    sizes: list[Sizes]


async def _write_rest_of_minute(spool: Spool, minute: int, rate: int, logged: Logged) -> None:
    """What the other 59 seconds bring."""
    policy = RotationPolicy()
    age_s = policy.behind_age_s if minute else policy.max_age_s
    rotation = RotationPolicy(max_bytes=min(policy.max_bytes, int(age_s * rate * EVENT_BYTES)))
    async with open_writer(spool, rotation) as writer:
        for _ in range(59):
            events = [make_event(number % CUSTOMERS) for number in range(rate)]
            await writer.append(events)
            logged.keep([event.activity_id for event in events])


async def _outage(
    logged: Logged, other: Logged, processes: dict[str, psutil.Process], spool: Spool, options: Any
) -> _Outage:
    taken: list[float] = []
    alone: list[float] = []
    now: list[float] = []
    sizes: list[Sizes] = []
    for minute in range(options.minutes):
        await _write_rest_of_minute(spool, minute, options.rate, logged)
        # The server's follower has a minute's events to catch up with at once, which is not what is measured.
        logged.seconds(1, 1)
        other.seconds(1, 1)
        # Which of them comes first must not matter.
        for server in (logged, other) if minute % 2 else (other, logged):
            found = server.seconds(options.rate, 1)
            if server is logged:
                now = found
                taken += found
            else:
                alone += found
        sizes.append(Sizes(*(process.memory_info().rss / 2**20 for process in processes.values())))
    return _Outage(taken, alone, now, sizes)


@contextmanager
def _upload(home: Path, database: Path) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "snowledger", "upload", "--home", str(home), "--duckdb-path", str(database)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **ROOMY}
    ) as uploader:
        try:
            yield psutil.Process(uploader.pid)
        finally:
            uploader.terminate()


def _hold(database: Path) -> duckdb.DuckDBPyConnection:
    """Open the file as another program would, as soon as the uploader lets go of it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return duckdb.connect(str(database), read_only=True)
        except duckdb.IOException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _depth(spool: Spool) -> int:
    return sum(segment.events for segment in spool.sealed_segments())


def _drain(spool: Spool, patience_s: float = PATIENCE_S) -> tuple[float, float, float]:
    """Wait until the queue is empty: seconds until it began to, events per second from then on, and the peak depth."""
    started = time.monotonic()
    full = _depth(spool)
    begun: tuple[float, int] | None = None
    while (left := _depth(spool)) or spool.active_segments():
        if begun is None and left < full:
            begun = time.monotonic(), left
        if time.monotonic() - started > patience_s:
            raise TimeoutError(f"{left} events are still in the queue")
        time.sleep(0.02)
    if begun is None:
        raise RuntimeError("the backlog is too small to measure its drain")
    return begun[0] - started, begun[1] / (time.monotonic() - begun[0]), full


def _peak_mb(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _check(report: Report, database: Path, ids: Path) -> None:
    """Every acknowledged event is in the warehouse, once."""
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute("SET memory_limit = '4GB'")
        files = f"read_csv('{ids}', columns = {{'id': 'VARCHAR'}}, header = false)"
        counts = connection.execute(
            f"SELECT count(*), count(*) FILTER (WHERE loaded.activity_id IS NULL) FROM {files} AS acked"  # noqa: S608
            " LEFT JOIN (SELECT DISTINCT activity_id FROM activities.raw_events) AS loaded ON activity_id = id"
        ).fetchone()
        twice = connection.execute(
            "SELECT count(*) - count(DISTINCT activity_id) FROM activities.raw_events"
        ).fetchone()
    assert counts is not None
    assert twice is not None
    report.row("acknowledged events", counts[0], "events")
    report.row("  of them not in the warehouse", counts[1], "events", "= 0", met=counts[1] == 0)
    report.row("  twice in the warehouse", twice[0], "events", "= 0", met=twice[0] == 0)


def _report_outage(report: Report, loading: list[float], outage: _Outage) -> None:
    alone_p95, p95 = percentile(outage.alone, 95), percentile(outage.taken, 95)
    report.row("log_event while an uploader loads, p95", percentile(loading, 95), "ms")
    report.row("log_event while the warehouse is away, p50", percentile(outage.taken, 50), "ms")
    report.row("  p95", p95, "ms", f"< {P95_TARGET_MS} ms", met=p95 < P95_TARGET_MS)
    report.row("log_event without an uploader, in the same minutes, p50", percentile(outage.alone, 50), "ms")
    # On a machine that does not keep up with the rate the ratio says nothing.
    report.row("  p95", alone_p95, "ms", f"< {P95_TARGET_MS} ms", met=alone_p95 < P95_TARGET_MS)
    ratio = p95 / alone_p95
    report.row("  ratio to that without an uploader", ratio, "", f"< {RATIO_TARGET}", met=ratio < RATIO_TARGET)
    report.row("while it is away, p95 in the last minute", percentile(outage.last, 95), "ms")
    early = outage.sizes[len(outage.sizes) // 4]
    for name, then, now in zip(Sizes._fields, early, outage.sizes[-1], strict=True):
        report.row(f"{name}'s memory after a quarter of it", then, "MB")
        target = f"< {GROWTH_TARGET_MB}"
        report.row("  its growth in the rest", now - then, "MB", target, met=now - then < GROWTH_TARGET_MB)


def main() -> int:
    report, options = start("An outage of the warehouse", _options)
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).resolve()
        home, database, ids = folder / "spool", folder / "warehouse.duckdb", folder / "acked"
        spool = open_spool(home)
        logged, other = Logged(home, ids), Logged(folder / "other", folder / "other-acked")
        try:
            for server in (logged, other):
                server.seconds(options.rate, 2)  # warm
            with _upload(home, database) as uploader:
                loading = logged.seconds(options.rate, options.before)
                holder = _hold(database)
                processes = {"server": logged.process, "uploader": uploader}
                outage = anyio.run(_outage, logged, other, processes, spool, options)
                _report_outage(report, loading, outage)
                logged.close()
                shutil.copytree(spool.queue, folder / "backlog")
                holder.close()
                waited_s, rate, full = _drain(spool)
                peak = _peak_mb(uploader)
            report.row(f"backlog of {len(list((folder / 'backlog').iterdir())):,} segments", full, "events")
            report.row("until its drain begins", waited_s, "s")
            report.row("its drain", rate, "events/s")
            usual = open_spool(folder / "usual")
            for file in (folder / "backlog").iterdir():
                file.rename(usual.queue / file.name)
            with _upload(usual.home, folder / "usual.duckdb"):
                usual_rate = _drain(usual)[1]
            report.row("drain of the same backlog by a fresh uploader", usual_rate, "events/s")
            ratio = rate / usual_rate
            report.row("  ratio", ratio, "", f">= {DRAIN_TARGET}", met=ratio >= DRAIN_TARGET)
            target = f"< {LOADING_TARGET_MB}"
            report.row("uploader's peak memory", peak, "MB", target, met=peak < LOADING_TARGET_MB)
        finally:
            logged.close()
            other.close()
        _check(report, database, ids)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
