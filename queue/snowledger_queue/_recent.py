"""A customer's recent events: which they are, and how ``state.db`` keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import orjson

from ._recall import RecentEvent
from ._state import DamagedStateError
from ._stored import OPTIONAL_TEXT, TEXT, check_json, check_types

if TYPE_CHECKING:
    from collections.abc import Iterable

RECENT_EVENTS = 10
"""Enough to tell what was going on, and with their features small beside a context of 16 KiB."""


Row = tuple[str, str, str, str | None, str | None]
"""A ``RecentEvent`` as ``state.db`` keeps it: the features are text."""

_Event = TypeVar("_Event", RecentEvent, Row)


def newest(events: Iterable[_Event]) -> list[_Event]:
    """The newest of them, the newest first; of several with one id the last given."""
    unique = {event[1]: event for event in events}
    # By ts, then id; ids differ, so nothing after them is ever compared.
    return sorted(unique.values(), reverse=True)[:RECENT_EVENTS]


def to_row(event: RecentEvent) -> Row:
    return (*event[:4], None if event.features is None else event.features.decode())


def to_event(row: Row) -> RecentEvent:
    """Raises ``DamagedStateError``."""
    if row[4] is not None and not isinstance(check_json(row[4]), dict):
        raise DamagedStateError("the features of a recent event are no object")
    return RecentEvent(*row[:4], None if row[4] is None else row[4].encode())


def encode_rows(rows: list[Row]) -> bytes:
    """All of a customer's as one value, for a fold touches all of most."""
    return orjson.dumps(rows)


def decode_rows(kept: bytes) -> list[Row]:
    """What ``encode_rows`` made. Raises ``DamagedStateError`` for anything else."""
    try:
        rows = [
            (ts, event_id, activity, link, features) for ts, event_id, activity, link, features in orjson.loads(kept)
        ]
    except (ValueError, TypeError) as error:
        raise DamagedStateError("recent events cannot be decoded") from error
    check_types(rows, TEXT, TEXT, TEXT, OPTIONAL_TEXT, OPTIONAL_TEXT)
    return rows
