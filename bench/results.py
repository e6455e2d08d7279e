"""The query runner: a small query from its ticket to its result, and a large result: ``python bench/results.py``.

The real ``snowledger upload``; tickets are submitted as a server does it, without the server.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import psutil
from bench.drain import make_backlog, preload
from bench.harness import percentile, start

from snowledger_ddl import checked_parameters, load_templates, query_hash
from snowledger_queue import RunnerTickets, Spool, Tickets, new_query_tag, open_spool, timestamp

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping

    from snowledger_queue import Ticket

CUSTOMER = "customer-000"
"""That of ``preload``."""

SMALL_TARGET_MS, MEMORY_TARGET_MB = 500, 512
LARGE_ROWS = 5_000_000
LARGE = """\
-- ---
-- answers = "Every pair of events: as many rows as anybody wants."
-- row_limit = 5_000_000
-- [params.number]
-- type = "integer"
-- default = 1
-- description = "Tells one query from another."
-- ---
SELECT a.activity_id AS one, b.activity_id AS other, a.ts, $number AS number
FROM events AS a CROSS JOIN events AS b WHERE a.customer = $customer
"""


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--queries", type=int, default=200, help="small queries (default 200)")
    parser.add_argument("--events", type=int, default=100_000, help="events of the customer (default 100,000)")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="events to load meanwhile (default 1,000,000)")


@contextmanager
def _uploader(spool: Spool, templates: Path) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "snowledger", "upload", "--home", str(spool.home)]
    environment = {"SNOWLEDGER_TEMPLATES_DIR": str(templates), "SNOWLEDGER_LOG_LEVEL": "error"}
    environment |= {"SNOWLEDGER_QUERY_ROW_CAP": str(LARGE_ROWS)}
    with subprocess.Popen(command, env={**os.environ, **environment}) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def _submit(tickets: Tickets, templates: Path, name: str, params: Mapping[str, object]) -> str:
    template = load_templates(templates).templates[name]
    checked = checked_parameters(template, params)
    asked, _ = tickets.submit(
        customer=CUSTOMER,
        customers=(CUSTOMER,),
        template=name,
        params=orjson.dumps(checked).decode(),
        query_hash=query_hash(template, checked),
        query_tag=new_query_tag(),
        byte_cap=None,
        max_age_s=0,
        now=timestamp(datetime.now(UTC)),
    )
    return asked.ticket_id


def _finished(tickets: Tickets, ticket_id: str, look: Callable[[], None] = lambda: None) -> Ticket:
    mark: object = None
    while True:
        now = tickets.mark()
        if now != mark:
            mark = now
            ticket = tickets.get(ticket_id, CUSTOMER)
            if ticket is not None and ticket.finished_at is not None:
                if ticket.status != "succeeded":
                    raise RuntimeError(f"{ticket.status}: {ticket.error}")
                return ticket
        look()
        time.sleep(0.002)


def main() -> int:
    report, options = start("The query runner", _options)
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).resolve()
        spool = open_spool(folder / "spool")
        templates = folder / "templates"
        templates.mkdir()
        (templates / "large.sql").write_text(LARGE, encoding="utf-8")
        preload(spool.home / "warehouse.duckdb", options.events)
        RunnerTickets(spool).recover(timestamp(datetime.now(UTC)))
        tickets = Tickets(spool)
        with _uploader(spool, templates) as process:
            _finished(tickets, _submit(tickets, templates, "activity_counts", {"since": "700d"}))
            taken = []
            for number in range(options.queries):
                begun = time.perf_counter()
                _finished(tickets, _submit(tickets, templates, "activity_counts", {"since": f"{700 - number % 600}d"}))
                taken.append((time.perf_counter() - begun) * 1000)
            report.row(
                f"a small query of {options.events:,} events, ticket to result: p50", percentile(taken, 50), "ms"
            )
            p95 = percentile(taken, 95)
            report.row("  p95", p95, "ms", f"< {SMALL_TARGET_MS} ms", met=p95 < SMALL_TARGET_MS)

            largest = 0.0

            def look() -> None:
                nonlocal largest
                largest = max(largest, process.memory_info().rss / 2**20)

            begun = time.perf_counter()
            done = _finished(tickets, _submit(tickets, templates, "large", {}), look)
            report.row(f"a result of {LARGE_ROWS:,} rows", time.perf_counter() - begun, "s")
            report.row(
                "  rows kept", done.row_count or 0, "rows", f"= {LARGE_ROWS:,}", met=done.row_count == LARGE_ROWS
            )
            report.row("  peak memory", largest, "MB", f"< {MEMORY_TARGET_MB}", met=largest < MEMORY_TARGET_MB)

            make_backlog(folder / "backlog", options.backlog)
            for file in (folder / "backlog").iterdir():
                file.rename(spool.queue / file.name)
            both = [_submit(tickets, templates, "large", {"number": number}) for number in (2, 3)]
            for asked in both:
                _finished(tickets, asked, look)
            while spool.sealed_segments():
                look()
                time.sleep(0.05)
            label = f"  with two of them and {options.backlog:,} events loading"
            report.row(label, largest, "MB", f"< {MEMORY_TARGET_MB}", met=largest < MEMORY_TARGET_MB)
        tickets.close()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
