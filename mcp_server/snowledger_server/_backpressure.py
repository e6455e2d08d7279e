"""How an answer tells that too much waits for the warehouse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snowledger_queue import SAMPLE_RATE

if TYPE_CHECKING:
    from snowledger_queue import Pressure

BACKPRESSURE: dict[str, Any] = {
    "type": "object",
    "description": "Only there while too much waits for the warehouse. What was stored is as safe as ever.",
    "properties": {
        "state": {
            "type": "string",
            "enum": ["sampling", "refusing"],
            "description": "sampling: of frequent telemetry a part is kept; refusing: the next calls will be refused.",
        },
        "reason": {"type": "string", "enum": ["bytes", "events", "age", "disk"]},
        "sample_rate": {"type": "number", "description": "The fraction of frequent telemetry that is kept."},
    },
    "required": ["state", "reason", "sample_rate"],
    "additionalProperties": False,
}
"""The schema of the member ``backpressure``."""


def told(pressure: Pressure) -> dict[str, object]:
    """What an answer has of it: the member ``backpressure``, or nothing."""
    if pressure.state == "normal":
        return {}
    return {"backpressure": {"state": pressure.state, "reason": pressure.reason, "sample_rate": SAMPLE_RATE}}
