"""The first rows of a result as JSON, small enough for an answer to a model."""

from __future__ import annotations

import math
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson

from snowledger_queue import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_CELL_CHARACTERS = 500
"""A feature may have 256 KiB; the whole value is in the file."""

_MAX_INTEGER = 2**53 - 1
"""Beyond it, JSON readers lose digits (``snowledger_queue`` refuses such numbers in events)."""


def sample_json(rows: Sequence[Sequence[object]]) -> str:
    """A JSON list of rows. What JSON has no form for becomes text, and long values are cut."""
    return orjson.dumps([[_cell(value) for value in row] for row in rows]).decode()


def _cell(value: object) -> object:
    plain = _plain(value)
    text = plain if isinstance(plain, str) else orjson.dumps(plain).decode() if isinstance(plain, list | dict) else ""
    return plain if len(text) <= MAX_CELL_CHARACTERS else f"{text[:MAX_CELL_CHARACTERS]}…"


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    for kind, form in _FORMS:
        if isinstance(value, kind):
            return form(value)
    return str(value)


_FORMS: tuple[tuple[type | tuple[type, ...], Callable[[Any], object]], ...] = (
    (str, lambda value: value.encode("utf-8", "replace").decode()),
    (int, lambda value: value if abs(value) <= _MAX_INTEGER else str(value)),
    # Snowflake's quotients are decimals. With more digits than a float keeps it is text.
    (Decimal, lambda value: float(value) if len(value.as_tuple().digits) <= sys.float_info.dig else str(value)),
    (float, lambda value: value if math.isfinite(value) else str(value)),
    (datetime, lambda value: timestamp(value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))),
    ((date, time), lambda value: value.isoformat()),
    (timedelta, lambda value: value.total_seconds()),
    ((bytes, bytearray, memoryview), lambda value: bytes(value).hex()),
)
