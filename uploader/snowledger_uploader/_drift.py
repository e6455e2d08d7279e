"""The alert that events do not fit: ``cdesk.schema_drift_detected``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from snowledger_queue import OPERATIONAL_CUSTOMER, QueueError, new_event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snowledger_queue import Origin

    from ._own_events import OwnEvents

log = logging.getLogger(__name__)


class DriftAlert:
    """Logs alerts as events. Once one is loaded, it shows that the warehouse takes events at all."""

    def __init__(self, events: OwnEvents, origin: Origin) -> None:
        self._events = events
        self._origin = origin

    @property
    def writer(self) -> str:
        """Names the segments of the uploader's own events."""
        return self._events.writer

    def raised(self, features: Mapping[str, object]) -> None:
        """Log one. Blocking. Never raises."""
        try:
            event = new_event(
                self._origin,
                activity="cdesk.schema_drift_detected",
                customer=OPERATIONAL_CUSTOMER,
                feature_json=dict(features),
            )
            self._events.put(event)
        except (OSError, QueueError) as error:
            log.warning("cannot log that events do not fit: %s", error)
