"""The values that a client binds to the question marks of a statement."""

import datetime as dt
from collections.abc import Callable
from typing import Any

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def rows_of(bindings: dict[str, dict[str, Any]] | None) -> list[list[Any]]:
    """One list of values per execution: several when a client binds lists (`executemany`)."""
    if not bindings:
        return [[]]
    columns = [bindings[str(place)] for place in range(1, len(bindings) + 1)]
    if any(isinstance(column["value"], list) for column in columns):
        return [
            list(row)
            for row in zip(
                *([_value(column["type"], value) for value in column["value"]] for column in columns), strict=True
            )
        ]
    return [[_value(column["type"], column["value"]) for column in columns]]


def _moment(text: str) -> dt.datetime:
    """A time given in nanoseconds since 1970."""
    return _EPOCH + dt.timedelta(microseconds=int(text) // 1000)


def _with_offset(text: str) -> dt.datetime:
    moment, _, offset = text.partition(" ")
    # The offset is in minutes and 1440 greater, so that it is never negative.
    zone = dt.timezone(dt.timedelta(minutes=int(offset or 1440) - 1440))
    return _moment(moment).astimezone(zone)


_READERS: dict[str, Callable[[str], Any]] = {
    "FIXED": int,
    "REAL": float,
    "BOOLEAN": lambda text: text.lower() in {"true", "1"},
    "BINARY": bytes.fromhex,
    "DATE": lambda text: (_EPOCH + dt.timedelta(milliseconds=int(text))).date(),
    "TIME": lambda text: _moment(text).time(),
    "TIMESTAMP_NTZ": lambda text: _moment(text).replace(tzinfo=None),
    "TIMESTAMP_LTZ": _moment,
    "TIMESTAMP_TZ": _with_offset,
}


def _value(kind: str, text: str | None) -> Any:
    return None if text is None else _READERS.get(kind, str)(text)
