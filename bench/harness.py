"""What the benchmarks share: percentiles, events, the report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from snowledger_queue import Event, Origin, new_event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ORIGIN = Origin("bench", "0" * 32)


def make_event(number: int) -> Event:
    """An event of 378 bytes, as a tool call would log it."""
    features = {"tool": "grep", "latency_ms": 100 + number % 500, "ok": True}
    return new_event(
        ORIGIN, activity="cdesk.tool_called", customer=f"customer-{number % 1000:03d}", feature_json=features
    )


def make_insight(number: int, customer: str) -> Event:
    """An insight, as log_insight would log it."""
    features = {
        "subject": f"product/{number}",
        "metric": "mrr_usd",
        "value": 1000.5 + number,
        "provenance_query_hash": f"{number:064x}",
        "valid_from": None,
        "valid_to": None,
        "verified": False,
    }
    return new_event(ORIGIN, activity="cdesk.insight_recorded", customer=customer, feature_json=features)


def percentile(values: Sequence[float], percent: int) -> float:
    """The given percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


class Report:
    """Figures as a table on stdout and, with ``--json FILE``, as JSON."""

    def __init__(self, title: str, options: argparse.Namespace) -> None:
        self._title = title
        self._options = options
        self._rows: list[dict[str, object]] = []

    def row(self, name: str, value: float, unit: str, target: str = "", *, met: bool | None = None) -> None:
        """Add a figure; ``target`` says what it must reach, ``met`` whether it does."""
        self._rows.append({"name": name, "value": value, "unit": unit, "target": target, "met": met})
        mark = "" if met is None else ("met" if met else "MISSED")
        print(f"  {name:<62} {value:>12,.3f} {unit:<9} {target:<22} {mark}", flush=True)

    def finish(self) -> int:
        """Write the JSON; return the exit code: 1 when a target was missed."""
        if self._options.json:
            machine = {
                "cpus": os.cpu_count(),
                "python": platform.python_version(),
                "system": platform.system(),
            }
            content = {"benchmark": self._title, "machine": machine, "rows": self._rows}
            Path(self._options.json).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return int(any(row["met"] is False for row in self._rows))


def start(title: str, add_options: Callable[[argparse.ArgumentParser], None]) -> tuple[Report, argparse.Namespace]:
    """Parse the command line and print the heading."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    add_options(parser)
    options = parser.parse_args()
    print(f"{title} (Python {platform.python_version()}, {os.cpu_count()} CPUs)")
    return Report(title, options), options
