"""How the uploader does, counted and shown where the configuration says so; else this does nothing."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._breaker import CLOSED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from snowledger_queue import Spool, UploaderStatus

    from ._config import UploaderConfig
    from ._drain import DrainedBatch
    from ._metrics import Metrics

log = logging.getLogger(__name__)

_REASONS = {
    "starting": "starting",
    "waiting": "the warehouse cannot be used now",
    "authentication needed": "authentication needed",
    "stopped": "shutting down",
}
"""Of states in which nothing is loaded: fixed words, for the problem itself may name paths and accounts."""


class Observed:
    """Hears what the uploader does."""

    def __init__(self, config: UploaderConfig, spool: Spool, status: Callable[[], UploaderStatus]) -> None:
        """``status`` gives the current one, to any thread."""
        self._config = config
        self._spool = spool
        self._status = status
        self._metrics: Metrics | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Count, and show it on the configured address, while the context lasts. Raises ``MonitorError``."""
        if self._config.monitor is None:
            yield
            return
        from ._metrics import Metrics
        from ._monitor import Monitored, monitor

        self._metrics = Metrics(self._config.version, self._spool, self._status)
        try:
            with monitor(
                self._config.monitor, Monitored(self._metrics.registry, lambda: unready(self._status()))
            ) as port:
                log.info("/healthz, /readyz and /metrics are on %s:%d", self._config.monitor[0], port)
                yield
        finally:
            self._metrics.close()

    def loaded(self, drained: DrainedBatch) -> None:
        """A batch is in the warehouse."""
        if self._metrics is not None:
            self._metrics.loaded(drained)

    def query_ended(self, outcome: str, seconds: float) -> None:
        """A query has ended, see ``End``, after so many seconds."""
        if self._metrics is not None:
            self._metrics.query_ended(outcome, seconds)


def unready(status: UploaderStatus) -> list[str]:
    """Why an uploader that says this does not load; nothing when it does."""
    found = [_REASONS[status.state]] if status.state in _REASONS else []
    if status.breaker is not None and status.breaker.state != CLOSED:
        found.append("the circuit breaker is open")
    return found
