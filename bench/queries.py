"""Queries from submit_query to their end, and submit_query while ten run: ``python bench/queries.py``.

The real server and the real uploader, with DuckDB, over the wire of 2026-07-28.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from bench.harness import make_event, percentile, start
from bench.stdio_client import MODERN, StdioClient

from snowledger_queue import open_spool, open_writer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

EVENTS = 20_000
RUNNING = 10
BLOCK = 80
"""A customer may have a hundred open queries."""

SUBMIT_TARGET_MS, FINISHED_TARGET_MS = 50, 500

SLOW = """\
-- ---
-- answers = "Nothing, slowly."
-- example = { number = 1 }
-- [params.number]
-- type = "integer"
-- description = "Tells one query from another."
-- ---
SELECT count(*) + $number AS n FROM events a, events b, events c, events d, events e WHERE a.customer = $customer
"""


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=400, help="queries of each kind (default 400)")


async def _fill(home: Path) -> None:
    async with open_writer(open_spool(home)) as writer:
        await writer.append([make_event(number) for number in range(EVENTS)])


@contextmanager
def _uploader(environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "snowledger", "upload"], env={**os.environ, **environment})
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def _ask(client: StdioClient, tool: str, **arguments: Any) -> tuple[float, dict[str, Any]]:
    taken, answer = client.timed("tools/call", name=tool, arguments=arguments)
    return taken, answer["result"]["structuredContent"]


def _finished(client: StdioClient, calls: int) -> Iterator[float]:
    """Milliseconds from submit_query to the result of a small query, no two alike."""
    for number in range(calls):
        begun = time.perf_counter()
        _, ticket = _ask(client, "submit_query", template="activity_counts", params={"since": 3_600 + number})
        _, result = _ask(client, "get_result", ticket_id=ticket["ticket_id"], wait_s=20)
        if result["status"] != "succeeded":
            raise RuntimeError(result)
        yield (time.perf_counter() - begun) * 1000


def _submitted(client: StdioClient, calls: int) -> Iterator[float]:
    """Milliseconds of submit_query, while as many queries run as may."""
    running = [
        _ask(client, "submit_query", template="slow", params={"number": number})[1]["ticket_id"]
        for number in range(RUNNING)
    ]
    while any(_ask(client, "get_result", ticket_id=ticket)[1]["status"] != "running" for ticket in running):
        time.sleep(0.05)
    for block in range(calls // BLOCK):
        tickets = []
        for number in range(BLOCK):
            since = 100_000 + block * BLOCK + number
            taken, ticket = _ask(client, "submit_query", template="activity_counts", params={"since": since})
            tickets.append(ticket["ticket_id"])
            yield taken
        for ticket_id in tickets:
            _ask(client, "cancel_query", ticket_id=ticket_id)
    for ticket_id in running:
        _, answer = _ask(client, "cancel_query", ticket_id=ticket_id)
        if answer["status"] != "running":
            raise RuntimeError(answer)


def main() -> int:
    report, options = start("Queries over stdio, with DuckDB", _options)
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).resolve()
        home, templates = folder / "spool", folder / "templates"
        templates.mkdir()
        (templates / "slow.sql").write_text(SLOW, encoding="utf-8")
        anyio.run(_fill, home)
        environment = {
            "SNOWLEDGER_HOME": str(home),
            "SNOWLEDGER_CUSTOMER": "customer-000",
            "SNOWLEDGER_TEMPLATES_DIR": str(templates),
            "SNOWLEDGER_QUERY_CONCURRENCY": str(RUNNING),
            "SNOWLEDGER_LOG_LEVEL": "error",
        }
        subprocess.run(
            [sys.executable, "-m", "snowledger", "upload", "--once"],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )
        client = StdioClient(MODERN, "-m", "snowledger", "serve", "--no-uploader", environment=environment)
        with _uploader(environment):
            list(_finished(client, 5))  # warm all
            for kind, taken, target in (
                (f"a small query over {EVENTS:,} events, submitted and its result read", _finished, FINISHED_TARGET_MS),
                (f"submit_query while {RUNNING} queries run", _submitted, SUBMIT_TARGET_MS),
            ):
                times = list(taken(client, options.calls))
                p95 = percentile(times, 95)
                report.row(f"{kind}, p50", percentile(times, 50), "ms")
                report.row(f"{kind}, p95", p95, "ms", f"< {target} ms", met=p95 < target)
            client.close()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
