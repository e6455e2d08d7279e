"""What one event adds to its customer's context: a count, a recent event, an insight atom.

The server reads it off the lines that are still in the queue, the uploader off those that the warehouse holds: one
reading for both, so that an answer does not change when an event moves from one to the other.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import orjson

from ._event import timestamp
from ._rules import OPERATIONAL_CUSTOMER

if TYPE_CHECKING:
    from collections.abc import Mapping

INSIGHT_ACTIVITY = "cdesk.insight_recorded"

HOUR_CHARACTERS = len("2026-11-21T04")
"""An event's hour is the beginning of its ``ts``: it sorts, and SQL cuts it out without parsing."""

MAX_FEATURE_PREVIEW_BYTES = 256
"""Features of a recent event are repeated up to this size. Recent events tell what was going on, not its details; ten
of them must leave most of a 16 KiB answer to the insights."""

_PERIOD = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"([T ](?P<hour>\d\d?):(?P<minute>[0-5]?\d)(:(?P<second>[0-5]?\d)(\.(?P<fraction>\d*))?)?"
    r"(Z|(?P<sign>[+-])(?P<hours>\d\d)(:?(?P<minutes>\d\d))?)?)?",
    re.ASCII,
)
"""The times that the view ``insight_atoms`` reads; ``datetime.fromisoformat`` takes others and refuses some of them."""

_TEXT = rb"[ !#-\[\]-~]*"
HEADING = re.compile(
    rb'\{"activity_id":"[0-9a-f]{32}","ts":"(%b)","customer":"(%b)",(?:"anonymous_customer_id":"%b",)?'
    rb'"activity":"(?!cdesk\.insight_recorded")(%b)","feature_json":\{' % (_TEXT, _TEXT, _TEXT, _TEXT)
)
"""The beginning of most lines that ``new_event`` makes: ``ts``, ``customer`` and ``activity``, enough to count an event
in a tenth of the time. Not of insights, and not of lines in which one of these needs escapes or more than ASCII."""


class Atom(NamedTuple):
    """An insight atom that may be recalled."""

    subject: str
    metric: str
    recorded_at: str
    """The event's ``ts``."""
    atom_id: str
    """The event's ``activity_id``."""
    verified: bool
    query_hash: str
    value: bytes
    """JSON."""
    valid_from: str | None
    """In the form of ``ts``, as ``valid_to``."""
    valid_to: str | None


class RecentEvent(NamedTuple):
    """An event, short."""

    ts: str
    event_id: str
    activity: str
    link: str | None
    features: bytes | None
    """``feature_json``; None when it has more than ``MAX_FEATURE_PREVIEW_BYTES``."""


class Contribution(NamedTuple):
    """What one event adds to the context of ``customer``."""

    customer: str
    hour: str
    """``2026-11-21T04``."""
    activity: str
    event: RecentEvent | None
    """None for an insight, which is listed as an atom."""
    atom: Atom | None
    """None for any other activity, and for an insight that the view ``insight_atoms`` quarantines."""


def contribution(line: bytes) -> Contribution | None:
    """Read an intact line; None for anonymous events and snowledger's own, which are in nobody's context."""
    try:
        event = orjson.loads(line)
        customer, activity, ts, event_id = event["customer"], event["activity"], event["ts"], event["activity_id"]
        features = event["feature_json"]
    except (ValueError, TypeError, KeyError):
        return None
    if not (
        isinstance(customer, str) and isinstance(activity, str) and isinstance(ts, str) and isinstance(event_id, str)
    ):
        return None
    if not isinstance(features, dict) or customer == OPERATIONAL_CUSTOMER:
        return None
    hour = ts[:HOUR_CHARACTERS]
    if activity == INSIGHT_ACTIVITY:
        return Contribution(customer, hour, activity, None, _atom(event_id, ts, features))
    preview = _encoded(features)
    if preview is not None and len(preview) > MAX_FEATURE_PREVIEW_BYTES:
        preview = None
    link = event.get("link")
    recent = RecentEvent(ts, event_id, activity, link if isinstance(link, str) else None, preview)
    return Contribution(customer, hour, activity, recent, None)


def _atom(atom_id: str, recorded_at: str, features: Mapping[str, object]) -> Atom | None:
    """The atom, unless the view ``insight_atoms`` would quarantine it."""
    subject, metric, query_hash = (features.get(name) for name in ("subject", "metric", "provenance_query_hash"))
    if not (isinstance(subject, str) and isinstance(metric, str) and isinstance(query_hash, str)):
        return None
    if not (subject and metric and query_hash and "value" in features):
        return None
    value = _encoded(features["value"])
    if value is None:
        return None
    try:
        valid_from, valid_to = _time(features.get("valid_from")), _time(features.get("valid_to"))
    except (ValueError, OverflowError):
        return None
    if valid_from is not None and valid_to is not None and valid_to <= valid_from:
        return None
    verified = features.get("verified") is True
    return Atom(subject, metric, recorded_at, atom_id, verified, query_hash, value, valid_from, valid_to)


def _encoded(value: object) -> bytes | None:
    """JSON; None for what is nested so deeply that no event can hold it."""
    try:
        # A copy without the buffer of 4 KiB in which orjson has made the bytes, for they are kept.
        return bytes(memoryview(orjson.dumps(value)))
    except TypeError:
        return None


def _time(value: object) -> str | None:
    """The time as in ``Atom``. Raises ``ValueError`` or ``OverflowError`` for any but those of the years 1 to 9999."""
    if value is None:
        return None
    match = _PERIOD.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a time")
    hour, minute, second, hours, minutes = (
        int(match[name] or 0) for name in ("hour", "minute", "second", "hours", "minutes")
    )
    microsecond = int((match["fraction"] or "").ljust(6, "0")[:6])
    if (hour, minute, second, microsecond) > (24, 0, 0, 0):
        raise ValueError("not a time of day")
    offset = timedelta(hours=hours, minutes=minutes) * (-1 if match["sign"] == "-" else 1)
    day = datetime.fromisoformat(match["date"])
    time = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=microsecond)
    return timestamp(day + time - offset)
