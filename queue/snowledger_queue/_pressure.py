"""Backpressure: when the queue is too full, or the disk, and how that is told.

Two marks. Past the first, low-value telemetry is sampled; past the second, and when the disk is nearly full, nothing is
taken. A mark that was passed is left only at 80 % of it, so that a queue which hovers about a mark does not change its
state with every event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from ._load import Load

State = Literal["normal", "sampling", "refusing"]
Reason = Literal["disk", "bytes", "events", "age"]

_MIB = 1024**2

LEAVE_AT = 0.8
"""Of a mark. What is drained in between is a fifth of it, and that takes longer than a look at the queue."""


@dataclass(frozen=True, slots=True)
class PressureLimits:
    """Where the marks are. All but ``min_free_bytes`` are above 0."""

    max_bytes: int = 50 * 1024 * 1024
    """Above it nothing is taken; sampling begins above half of it."""
    events: int = 100_000
    """Sampling begins above it; nothing is taken above twice as many."""
    age_s: float = 120.0
    """Sampling begins when the oldest event has waited longer that is not kept back while others load. Age alone never
    refuses: few events harm nobody."""
    min_free_bytes: int = 256 * 1024 * 1024
    """The disk's reserve: nothing is taken when less is free; 0 keeps none. Five times a full queue, which the uploader
    must still be able to load into a DuckDB file on the same disk: only that makes a queue shorter."""


class Pressure(NamedTuple):
    """How a spool stands."""

    state: State
    """``normal``; ``sampling`` (past the first mark) or ``refusing`` (past the second)."""
    reason: Reason | None
    """Which mark was passed, the most pressing first; None when the state is normal."""
    load: Load
    limits: PressureLimits

    def problem(self) -> str:
        """What is too full, and the setting that says so; empty when the state is normal."""
        load, limits, refusing = self.load, self.limits, self.state == "refusing"
        match self.reason:
            case "disk":
                free, kept = _size(load.free_bytes), _size(limits.min_free_bytes)
                return f"the disk is nearly full: {free} are free, and {kept} are kept (min_free_disk)"
            case "bytes":
                what, limit = _size(load.bytes), _size(limits.max_bytes) if refusing else _size(limits.max_bytes / 2)
                setting = "max_queue_bytes" if refusing else "half of max_queue_bytes"
            case "events":
                what, limit = f"{load.events:,} events", f"{limits.events * (2 if refusing else 1):,}"
                setting = "twice backpressure_events" if refusing else "backpressure_events"
            case "age":
                what, limit = f"events up to {load.flow_age_s:.0f} s old", f"{limits.age_s:.0f} s"
                setting = "backpressure_threshold_ms"
            case None:
                return ""
        return (
            f"the queue is {'full' if refusing else 'filling up'}: {what} wait to be loaded, over {limit} ({setting})"
        )


class PressureGauge:
    """Judges one measurement after the other, each in the light of those before."""

    def __init__(self, limits: PressureLimits) -> None:
        self._limits = limits
        self._passed: frozenset[tuple[State, Reason]] = frozenset()

    def judge(self, load: Load) -> Pressure:
        """How a spool with this load stands."""
        fills = _fills(load, self._limits)
        passed = [mark for mark, fill in fills.items() if fill > (LEAVE_AT if mark in self._passed else 1)]
        self._passed = frozenset(passed)
        if not passed:
            return Pressure("normal", None, load, self._limits)
        return Pressure(*passed[0], load, self._limits)


def _fills(load: Load, limits: PressureLimits) -> dict[tuple[State, Reason], float]:
    """For each mark, the most pressing first, how near it is: above 1 it is passed."""
    return {
        ("refusing", "disk"): limits.min_free_bytes / max(load.free_bytes, 1),
        ("refusing", "bytes"): load.bytes / limits.max_bytes,
        ("refusing", "events"): load.events / limits.events / 2,
        ("sampling", "bytes"): load.bytes / limits.max_bytes * 2,
        ("sampling", "events"): load.events / limits.events,
        ("sampling", "age"): load.flow_age_s / limits.age_s,
    }


def _size(count: float) -> str:
    return f"{count / _MIB:,.1f} MiB" if count >= _MIB else f"{count:,.0f} bytes"
