"""The server's metrics for Prometheus. Only a transport that shows them loads this: it takes 50 ms.

What happens is counted with values that are looked up beforehand, in some microseconds for a call; what there is, is
measured when somebody asks.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from snowledger_queue.metrics import SpoolCollector

from ._tool import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from snowledger_queue import Spool

    from ._contexts import Contexts
    from ._journal import Journal

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1, 5, 25)
"""Seconds: the promises (log_event 10 ms, get_context 25 ms, submit_query 50 ms, first answer 300 ms) with steps around
them, and how long get_result may wait."""

TOOLS = ("get_context", "log_event", "log_insight", "submit_query", "get_result", "cancel_query")

PRESSURES = ("normal", "sampling", "refusing")

REJECTIONS = {
    401: "unauthenticated",
    403: "origin",
    405: "method",
    413: "too large",
    421: "host",
    429: "rate",
    503: "busy",
}
"""Why an HTTP request is not let through to a tool, by its answer's status; all others are ``other``."""

CONNECTIONS = ("too many", "too slow")
"""Why a connection is ended, whatever it asks."""


class Metrics(Collector):
    """What one server process counts."""

    def __init__(self, version: str, spool: Spool, journal: Journal, contexts: Contexts) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Info("snowledger_build", "What runs here.", registry=self.registry).info({"version": version})
        calls = Histogram(
            "snowledger_call_seconds",
            "How long calls of tools took, by how they ended.",
            ["tool", "outcome"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._calls = {(tool, outcome): calls.labels(tool, outcome) for tool in TOOLS for outcome in OUTCOMES}
        rejections = Counter(
            "snowledger_http_rejections", "HTTP requests not let through.", ["reason"], registry=self.registry
        )
        self._rejections = {status: rejections.labels(reason) for status, reason in REJECTIONS.items()}
        self._others = rejections.labels("other")
        connections = Counter(
            "snowledger_http_connections_ended",
            "HTTP connections ended by the guards.",
            ["reason"],
            registry=self.registry,
        )
        self._connections = {reason: connections.labels(reason) for reason in CONNECTIONS}
        self._journal = journal
        self._contexts = contexts
        self._start = time.time() - process_age_s()
        self._started_s: float | None = None
        self._first_answer_s: float | None = None
        self.registry.register(self)
        self._spool = SpoolCollector(spool)
        self.registry.register(self._spool)

    def close(self) -> None:
        """Let go of ``state.db``."""
        self._spool.close()

    def accepting(self) -> None:
        """From now on calls are accepted."""
        self._started_s = process_age_s()

    def call(self, tool: str, outcome: str, seconds: float) -> None:
        """A call has ended; see ``_tool.Observe``. Takes some microseconds."""
        self._calls[tool, outcome].observe(seconds)
        if self._first_answer_s is None and self._started_s is not None:
            self._first_answer_s = self._started_s + seconds

    def rejected(self, status: int) -> None:
        """A request was refused before it reached a tool, with this status."""
        self._rejections.get(status, self._others).inc()

    def connection_ended(self, reason: str) -> None:
        """A connection was ended for one of ``CONNECTIONS``."""
        self._connections[reason].inc()

    def collect(self) -> Iterator[Metric]:
        """What is counted elsewhere."""
        pressure, refused, sampled_out = self._journal.statistics()
        state = GaugeMetricFamily("snowledger_backpressure_state", "1 for the state that holds.", labels=["state"])
        for name in PRESSURES:
            state.add_metric([name], name == pressure.state)
        yield state
        yield CounterMetricFamily("snowledger_refused", "Calls refused for want of room.", refused)
        yield CounterMetricFamily("snowledger_sampled_out", "Events of frequent telemetry left out.", sampled_out)
        cache = CounterMetricFamily(
            "snowledger_context_cache", "Calls that found their context in memory, and others.", labels=["result"]
        )
        cache.add_metric(["hit"], self._contexts.hits)
        cache.add_metric(["miss"], self._contexts.misses)
        yield cache
        # process_start_time_seconds is not told by a service that may not see /proc/stat.
        yield GaugeMetricFamily("snowledger_start_time_seconds", "When the process started, since 1970.", self._start)
        if self._first_answer_s is not None:
            yield GaugeMetricFamily(
                "snowledger_first_answer_seconds",
                "From the start of the process until it accepted calls, plus how long the first call took.",
                self._first_answer_s,
            )


_LOADED_AT = time.monotonic()


def process_age_s() -> float:
    """For how many seconds this process has run; where the system does not say, since this module was loaded."""
    if sys.platform == "linux":
        # proc(5): the start in clock ticks since boot. The name before may hold anything, also parentheses.
        started = int(Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - _LOADED_AT
