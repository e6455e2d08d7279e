"""Sampling: which telemetry may be thinned out while the queue is too full, and which of it is kept."""

from __future__ import annotations

import hashlib

SAMPLE_RATE = 0.1
"""The fraction of low-value telemetry that is kept: little enough to matter, and each kept event stands for ten. It is
fixed, not growing with the pressure, so that a repeated idempotency key is decided as the first time however full the
queue has become."""

LOW_VALUE = frozenset({"cdesk.tool_called", "cdesk.file_read", "cdesk.context_refreshed"})
"""The frequent activities that are looked at in numbers, not one by one. All other names are kept whatever they are:
conversations, writes, errors, retries, queries, and a client's own, whose worth nobody here knows."""


def may_sample(activity: object, feature_json: object, revenue_impact: object) -> bool:
    """Whether an event is low-value telemetry: by its name, without money in it, and not of something that failed."""
    failed = isinstance(feature_json, dict) and feature_json.get("ok") is False
    return isinstance(activity, str) and activity in LOW_VALUE and revenue_impact is None and not failed


def kept_by_sample(activity_id: str, rate: float) -> bool:
    """Whether the event is among the fraction ``rate`` (0 to 1) that is kept: decided by its id, always alike."""
    # Hashed, for ids of one process differ in few bits.
    return int.from_bytes(hashlib.sha256(activity_id.encode()).digest()[:8]) < rate * 2**64
