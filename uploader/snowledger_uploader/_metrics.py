"""The uploader's metrics for Prometheus. Loaded only where they are shown: it takes 50 ms."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from snowledger_queue import RunnerTickets, StateError, timestamp
from snowledger_queue.metrics import SpoolCollector

from ._breaker import CLOSED, HALF_OPEN, OPEN
from ._budget import CREDITS_PER_S, WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from snowledger_queue import BreakerStatus, Spool, UploaderStatus

    from ._drain import DrainedBatch

LAG_BUCKETS = (0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Seconds: the promise is 5, and what waits for a warehouse is far above it."""

LOAD_BUCKETS = (0.05, 0.25, 1, 5, 15, 60, 300)
"""Seconds: a small batch into DuckDB to the longest statement in Snowflake."""

QUERY_BUCKETS = (0.05, 0.25, 1, 5, 15, 30, 60)
"""Seconds: the usual time limit is 30."""

STATES = ("starting", "idle", "loading", "waiting", "authentication needed", "stopped")

BREAKER_STATES = (CLOSED, OPEN, HALF_OPEN)

QUERY_ENDS = ("succeeded", "failed", "cancelled", "released")


class Metrics(Collector):
    """What one uploader counts. Used by the loop and by the monitor's thread."""

    def __init__(self, version: str, spool: Spool, status: Callable[[], UploaderStatus]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Info("snowledger_build", "What runs here.", registry=self.registry).info({"version": version})
        self._lag = self._histogram(
            "lag_seconds", "From logged to queryable, of each batch its oldest event.", LAG_BUCKETS
        )
        self._load = self._histogram("load_seconds", "How long the warehouse took for a batch.", LOAD_BUCKETS)
        queries = Histogram(
            "snowledger_query_seconds",
            "How long queries ran, by how they ended.",
            ["outcome"],
            buckets=QUERY_BUCKETS,
            registry=self.registry,
        )
        self._queries = {outcome: queries.labels(outcome) for outcome in QUERY_ENDS}
        self._status = status
        self._tickets = RunnerTickets(spool)
        self.registry.register(self)
        self._spool = SpoolCollector(spool)
        self.registry.register(self._spool)

    def close(self) -> None:
        """Let go of ``state.db``."""
        self._spool.close()
        self._tickets.close()

    def loaded(self, drained: DrainedBatch) -> None:
        """A batch is in the warehouse."""
        self._lag.observe(drained.lag_s)
        self._load.observe(drained.seconds)

    def query_ended(self, outcome: str, seconds: float) -> None:
        """A query has ended, in one of ``QUERY_ENDS``."""
        self._queries[outcome].observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """What is counted elsewhere."""
        status = self._status()
        state = GaugeMetricFamily("snowledger_uploader_state", "1 for the state that holds.", labels=["state"])
        for name in STATES:
            state.add_metric([name], name == status.state)
        yield state
        yield _total("batches", "Batches loaded.", status.batches)
        yield _total("events_loaded", "Events in them.", status.events)
        yield _total("events_new", "Of them, those that the warehouse did not know.", status.inserted)
        yield _total("dead_letters_written", "Lines and rows set aside.", status.dead_letters)
        yield from _breaker(status.breaker)
        yield _gauge(
            "contexts_problem", "1 while contexts cannot be brought up to date.", status.contexts_problem is not None
        )
        if status.contexts_as_of is not None:
            age = time.time() - datetime.fromisoformat(status.contexts_as_of).timestamp()
            yield _gauge("contexts_age_seconds", "Since contexts were compared with the warehouse.", max(0.0, age))
        with suppress(StateError):
            now = datetime.now(UTC)
            spent_s = self._tickets.spent(timestamp(now - WINDOW), timestamp(now))
            yield _gauge(
                "query_credits_per_hour",
                "Credits that the queries of the last hour used, estimated.",
                spent_s * CREDITS_PER_S,
            )

    def _histogram(self, name: str, documentation: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"snowledger_{name}", documentation, buckets=buckets, registry=self.registry)


def _breaker(breaker: BreakerStatus | None) -> Iterator[Metric]:
    state = GaugeMetricFamily("snowledger_breaker_state", "1 for the state that holds.", labels=["state"])
    for name in BREAKER_STATES:
        state.add_metric([name], name == (BREAKER_STATES[0] if breaker is None else breaker.state))
    yield state
    yield _total("breaker_opened", "How often the circuit breaker opened.", breaker.opened if breaker else 0)
    yield _total("retries", "Calls of the warehouse after a failure.", breaker.retries if breaker else 0)


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"snowledger_{name}", documentation, value)


def _total(name: str, documentation: str, value: float) -> Metric:
    return CounterMetricFamily(f"snowledger_{name}", documentation, value)
