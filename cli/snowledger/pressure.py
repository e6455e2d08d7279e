"""How full the queue is, measured against the settings."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snowledger_queue import Pressure, PressureLimits, Spool

    from .settings import Settings


def pressure_limits(settings: Settings) -> PressureLimits:
    """Where the settings have the marks."""
    from snowledger_queue import PressureLimits

    return PressureLimits(
        max_bytes=settings.max_queue_bytes,
        events=settings.backpressure_events,
        # An uploader that lets events wait on purpose is not behind.
        age_s=settings.backpressure_threshold_ms / 1000 + settings.batch_age_s,
        min_free_bytes=settings.min_free_disk,
    )


def measured_pressure(spool: Spool, limits: PressureLimits) -> Pressure:
    """How the spool stands now. Raises ``OSError``."""
    from snowledger_queue import LoadMeter, PressureGauge

    return PressureGauge(limits).judge(LoadMeter(spool).measure())


def as_json(pressure: Pressure) -> dict[str, Any]:
    """For ``status --json``: its ``queue.pressure``."""
    return {
        "state": pressure.state,
        "reason": pressure.reason,
        "problem": pressure.problem() or None,
        "free_bytes": pressure.load.free_bytes,
        "limits": asdict(pressure.limits),
    }
