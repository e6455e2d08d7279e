"""What queries may use, as the configuration says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What queries may use."""

    time_limit_s: float = 30.0
    """Of one query, from its beginning."""
    concurrency: int = 2
    """How many run at once."""
    row_cap: int = 1_000_000
    """Of one result, whatever its template allows."""
    byte_cap: int = 256 * 1024 * 1024
    """Of one result, unless its caller asks for less."""
    artifact_max_age_days: float = 90.0
    """How long results and tickets are kept."""
    artifact_max_bytes: int = 5 * 1024**3
    """Of all results; the oldest go first."""
    credits_per_hour: float = 100.0
    """Estimated; beyond it the kill switch goes on."""
