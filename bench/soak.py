"""Eight hours of a team's work in some minutes, and what has grown after it: ``python bench/soak.py``.

The load of one person in an hour: 60 turns with a model, and each turn reads the context and logs five events (a
question, an answer, three tool calls); 20 insights about 50 subjects; 15 queries with their results. Ten people do
that, through one server. So eight hours are 24,000 events, 1,600 insights, 4,800 contexts and 1,200 queries.

Growth is what a straight line through the second half's samples gains from its beginning to its end. What is kept on
purpose does not count: tickets (90 days), results, and the warehouse. A server remembers the ids of the last 20,000 to
40,000 events, up to 4 MB, which this much load does not fill.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
from bench.harness import start
from bench.stdio_client import LEGACY, StdioClient

from snowledger_queue import Spool, open_spool

if TYPE_CHECKING:
    from collections.abc import Iterator

TURNS, EVENTS, INSIGHTS, SUBJECTS, QUERIES = 60, 5, 20, 50, 15
TEMPLATES = ["activity_counts", "recent_events", "errors"]
SAMPLES_PER_HOUR = 12
MEMORY_TARGET_MB, STATE_TARGET_KB = 4.0, 64.0
QUIET_S = 60.0


class Sample(NamedTuple):
    """What may grow, at one moment."""

    server_mb: float
    server_files: int
    server_threads: int
    server_tasks: int
    uploader_mb: float
    uploader_files: int
    uploader_threads: int
    uploader_tasks: int
    state_kb: float
    """Of ``state.db`` without its tickets."""
    spool_files: int
    """All but results and their tickets' scratch."""


TARGETS = {"server_mb": MEMORY_TARGET_MB, "uploader_mb": MEMORY_TARGET_MB, "state_kb": STATE_TARGET_KB}
"""What the allocators of Python and DuckDB and the pages of SQLite move; anything else must not grow by one."""

WHAT = {"mb": ("memory", "MB"), "kb": ("size without tickets", "KB")}
"""What a field is called, and its unit."""


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hours", type=int, default=8, help="worth of load (default 8)")
    parser.add_argument("--people", type=int, default=10, help="how many cause it (default 10)")


class Process(NamedTuple):
    """One of the two, and where it writes its number of tasks."""

    process: psutil.Process
    tasks: Path

    def look(self) -> tuple[float, int, int, int]:
        return (
            self.process.memory_info().rss / 2**20,
            self.process.num_fds(),
            self.process.num_threads(),
            int(self.tasks.read_text(encoding="ascii") or 0),
        )


def _sample(spool: Spool, server: Process, uploader: Process) -> Sample:
    _until_quiet(spool)
    with closing(sqlite3.connect(f"file:{spool.state}?mode=ro", uri=True)) as state:
        kept = state.execute("SELECT sum(pgsize) FROM dbstat WHERE name NOT LIKE '%ticket%'").fetchone()[0]
    kept += spool.state.with_name("state.db-wal").stat().st_size
    files = sum(spool.artifacts not in found.parents and found.is_file() for found in spool.home.rglob("*"))
    return Sample(*server.look(), *uploader.look(), kept / 1024, files)


def _until_quiet(spool: Spool) -> None:
    """Samples are compared, so each is taken with an empty queue."""
    deadline = time.monotonic() + QUIET_S
    while any(spool.queue.iterdir()) or any(spool.work.iterdir()):
        if time.monotonic() > deadline:
            raise TimeoutError("the queue does not become empty")
        time.sleep(0.02)


def _calls(people: list[str], chance: random.Random) -> Iterator[dict[str, Any]]:
    """What people log and read between two samples."""
    for person in people:
        for _ in range(TURNS // SAMPLES_PER_HOUR):
            yield {"name": "get_context", "arguments": {"customer_id": person}}
            for number in range(EVENTS):
                features = {"tool": "grep", "turn": number, "text": "x" * chance.randrange(500)}
                event = {"activity": "cdesk.tool_called", "feature_json": features, "customer_id": person}
                yield {"name": "log_event", "arguments": event}
        for _ in range(round(INSIGHTS / SAMPLES_PER_HOUR + chance.random() - 0.5)):
            insight = {
                "subject": f"product/{chance.randrange(SUBJECTS)}",
                "metric": "mrr_usd",
                "value": chance.randrange(10**6),
                "provenance_query_hash": f"{chance.getrandbits(256):064x}",
                "customer_id": person,
            }
            yield {"name": "log_insight", "arguments": insight}


def _ask(client: StdioClient, count: int, chance: random.Random) -> int:
    """Run queries, two at once as the uploader does, and read their results."""
    for _ in range(count // 2):
        tickets = []
        for template in chance.choices(TEMPLATES, k=2):
            query = {"template": template, "params": {"since": chance.randint(60, 10**6)}}
            answer = client.request("tools/call", name="submit_query", arguments=query)
            tickets.append(answer["result"]["structuredContent"]["ticket_id"])
        for ticket in tickets:
            status = ""
            while status != "succeeded":
                awaited = {"ticket_id": ticket, "wait_s": 20}
                answer = client.request("tools/call", name="get_result", arguments=awaited)
                status = answer["result"]["structuredContent"]["status"]
                if status in {"failed", "cancelled"}:
                    raise RuntimeError(answer)
    return count // 2 * 2


def _growth(values: list[float]) -> float:
    """What a line through the values gains."""
    return statistics.linear_regression(range(len(values)), values).slope * (len(values) - 1)


def main() -> int:
    report, options = start("Eight hours of load in minutes", _options)
    people = [f"person-{number:02d}" for number in range(options.people)]
    chance = random.Random(1)
    samples: list[Sample] = []
    calls = queries = 0
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).resolve()
        spool = open_spool(folder / "spool")
        config = folder / "snowledger.toml"
        config.write_text(f"allowed_customers = {people!r}\n".replace("'", '"'), encoding="utf-8")
        environment = {
            "SNOWLEDGER_HOME": str(spool.home),
            "SNOWLEDGER_CUSTOMER": people[0],
            "SNOWLEDGER_CONFIG": str(config),
            "SNOWLEDGER_LOG_LEVEL": "error",
        }
        tasks = [folder / "server.tasks", folder / "uploader.tasks"]
        command = [sys.executable, "-m", "bench.counted", str(tasks[1]), "upload"]
        begun = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **environment}) as upload:
            client = StdioClient(
                LEGACY, "-m", "bench.counted", str(tasks[0]), "serve", "--no-uploader", environment=environment
            )
            try:
                server = Process(psutil.Process(client.pid), tasks[0])
                uploader = Process(psutil.Process(upload.pid), tasks[1])
                for _ in range(options.hours * SAMPLES_PER_HOUR):
                    step = list(_calls(people, chance))
                    client.pipeline(step)
                    calls += len(step)
                    queries += _ask(client, round(QUERIES * len(people) / SAMPLES_PER_HOUR), chance)
                    samples.append(_sample(spool, server, uploader))
            finally:
                client.close()
                upload.terminate()
        report.row(f"{calls:,} calls and {queries:,} queries took", time.perf_counter() - begun, "s")
    half = samples[len(samples) // 2 :]
    for name in Sample._fields:
        values = [float(getattr(sample, name)) for sample in half]
        whose, _, field = name.rpartition("_")
        what, unit = WHAT.get(field, (field, field))
        report.row(f"{whose}'s {what}, in the middle of it", values[0], unit)
        growth, target = _growth(values), TARGETS.get(name, 1.0)
        report.row("  growth from there to the end", growth, unit, f"< {target:g}", met=growth < target)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
