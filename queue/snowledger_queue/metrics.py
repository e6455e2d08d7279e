"""What lies in a spool, as metrics for Prometheus, measured when they are asked for.

The server and the uploader show the same, so that it can be seen while either is down. A module of its own, which the
package does not load: prometheus-client takes 50 ms, and most processes show no metrics.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ._dead_letter import CLASSES
from ._dead_letter_counts import DeadLetterCounter
from ._errors import QueueError
from ._load import LoadMeter
from ._locks import live_servers, lock_holder
from ._tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric

    from ._spool import Spool

__all__ = ["SpoolCollector", "encoder"]


def encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """What writes metrics in the format that a client accepts, and its content type; the plain one in doubt.

    prometheus-client raises for a version that is no number, and repeats it in the content type.
    """
    with suppress(TypeError):
        return choose_encoder(accept if accept.isascii() else "")
    return choose_encoder("")


class SpoolCollector(Collector):
    """Measures a spool at each scrape. What cannot be measured then is left out; the rest is told."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._meter = LoadMeter(spool)
        self._tickets = Tickets(spool)
        self._letters = DeadLetterCounter(spool)
        self._one = Lock()

    def close(self) -> None:
        """Let go of ``state.db``."""
        self._tickets.close()

    def collect(self) -> Iterator[Metric]:
        """Blocking: a listing of the queue, and one query for the tickets."""
        with self._one:
            for part in (self._queue, self._queries, self._dead_letters, self._processes):
                with suppress(OSError, QueueError):
                    yield from part()

    def _queue(self) -> Iterator[Metric]:
        load = self._meter.measure()
        torn = sum(name.endswith(".torn") for name in self._spool.filesystem.names(self._spool.torn))
        yield _gauge("queue_events", "Events that wait to be loaded; of unsealed ones an estimate.", load.events)
        yield _gauge("queue_bytes", "Bytes of the queue.", load.bytes)
        yield _gauge("queue_oldest_age_seconds", "For how long the oldest event has waited.", load.oldest_age_s)
        yield _gauge("disk_free_bytes", "What the spool's disk has left.", load.free_bytes)
        yield _gauge("torn_tails", "Files in torn/: what dead writers left unacknowledged.", torn)

    def _queries(self) -> Iterator[Metric]:
        yield _gauge("kill_switch_on", "1 while no query is taken and none runs.", self._tickets.kill_switch().on)
        # Last, for there may be no state.db yet.
        yield _by("tickets", "Queries that are kept, by status.", "status", self._tickets.counts())

    def _dead_letters(self) -> Iterator[Metric]:
        found = self._letters.counts()
        classes = {name: found.classes.get(name, 0) for name in CLASSES}
        yield _by("dead_letters", "Dead letters that are kept, by class.", "class", classes)
        yield _gauge("dead_letter_files_damaged", "Files of dead letters that cannot be read.", len(found.unread))
        age_s = 0.0 if found.oldest is None else time.time() - datetime.fromisoformat(found.oldest).timestamp()
        yield _gauge("dead_letters_oldest_age_seconds", "Since the oldest dead letter was set aside.", max(0.0, age_s))

    def _processes(self) -> Iterator[Metric]:
        running = lock_holder(self._spool.uploader_lock) is not None
        yield _gauge("uploader_running", "1 while a process holds the uploader's lock.", running)
        yield _gauge("servers", "Server processes that use the spool.", live_servers(self._spool))


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"snowledger_{name}", documentation, value)


def _by(name: str, documentation: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(f"snowledger_{name}", documentation, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
