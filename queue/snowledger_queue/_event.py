"""The event envelope (strict ActivitySchema v2.0, extra columns start with ``_``): how one is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import orjson
import uuid_utils

from ._errors import InvalidEventError
from ._ids import derived_id, new_query_tag
from ._json import check_text, check_value
from ._line import with_checksum
from ._rules import (
    MAX_CUSTOMER_CHARACTERS,
    check_activity,
    check_customer,
    check_link,
    check_revenue,
    check_sample_rate,
    checked_key,
    encoded_features,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 1
"""Version of the envelope, in every event as ``_schema_version``; raised when a member changes its meaning."""

_ID = re.compile(r"[0-9a-f]{32}")
_QUERY_TAG = re.compile(r"cdesk_[0-9a-f]{8}")


class Event(NamedTuple):
    """One event, validated and encoded: what an append takes."""

    activity_id: str
    """32 hex digits: a UUIDv7, or a UUIDv8 derived from the idempotency key."""
    ts: str
    """UTC with microseconds: ``2026-11-21T04:20:47.123456Z``."""
    line: bytes
    """The whole line as it goes into a segment, with its newline."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where events come from; the same for all events of a session."""

    source_version: str
    session_id: str
    source_system: str = "claude_desktop"


def new_event(  # noqa: PLR0913 - one parameter per member of the envelope
    origin: Origin,
    *,
    activity: object,
    customer: object,
    feature_json: object,
    anonymous_customer_id: object = None,
    link: object = None,
    revenue_impact: object = None,
    idempotency_key: object = None,
    activity_id: str | None = None,
    ts: str | None = None,
    query_tag: str | None = None,
    sample_rate: object = None,
) -> Event:
    """Validate the members and encode one event.

    ``activity_id`` is derived from ``customer`` and ``idempotency_key`` when there is a key, else given, else a
    new UUIDv7. ``ts`` is now unless given (in the form of ``Event.ts``), ``query_tag`` random unless given.
    ``sample_rate`` is the fraction of such events that was kept when this one was, None when all were.

    Raises:
        InvalidEventError: the first member that breaks a rule, with what is accepted.
    """
    check_activity(activity)
    if customer is None and anonymous_customer_id is not None:
        check_customer(anonymous_customer_id, "anonymous_customer_id")
    else:
        check_customer(customer)
        if anonymous_customer_id is not None:
            check_customer(anonymous_customer_id, "anonymous_customer_id")
    features = encoded_features(feature_json)
    if idempotency_key is not None:
        idempotency_key = checked_key(idempotency_key)
        activity_id = derived_id("idempotency", str(customer or ""), str(anonymous_customer_id or ""), idempotency_key)
    elif activity_id is None:
        activity_id = uuid_utils.uuid7().hex
    members: dict[str, object] = {
        "activity_id": activity_id,
        "ts": ts or timestamp(datetime.now(UTC)),
        "customer": customer,
    }
    if anonymous_customer_id is not None:
        members["anonymous_customer_id"] = anonymous_customer_id
    members["activity"] = activity
    members["feature_json"] = orjson.Fragment(features)
    if link is not None:
        check_link(link)
        members["link"] = link
    if revenue_impact is not None:
        check_revenue(revenue_impact)
        members["revenue_impact"] = revenue_impact
    members["_source_system"] = origin.source_system
    members["_source_version"] = origin.source_version
    members["_session_id"] = origin.session_id
    members["_query_tag"] = query_tag or new_query_tag()
    members["_schema_version"] = SCHEMA_VERSION
    if sample_rate is not None:
        check_sample_rate(sample_rate)
        members["_sample_rate"] = sample_rate
    return Event(activity_id, str(members["ts"]), with_checksum(orjson.dumps(members)))


def event_from_envelope(envelope: Mapping[str, object], origin: Origin) -> Event:
    """Make an event of a parsed envelope, or of a short ``{activity, customer, ts, feature_json}``.

    What is missing of the envelope comes from ``origin``. Without an ``activity_id`` the id is derived from the
    content, so that importing the same line twice is one event. A checksum member is ignored.

    Raises:
        InvalidEventError: an unknown, missing or badly typed member.
    """
    unknown = [name for name in envelope if name not in _ENVELOPE]
    if unknown:
        raise InvalidEventError(ascii(unknown[0])[1:-1], f"unknown member; accepted are {', '.join(_ENVELOPE)}")
    for name in ("activity", "ts", "feature_json"):
        if envelope.get(name) is None:
            raise InvalidEventError(name, "missing; an event needs at least activity, customer, ts and feature_json")
    if envelope.get("_schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise InvalidEventError("_schema_version", f"unknown version; this snowledger reads {SCHEMA_VERSION}")
    activity_id = envelope.get("activity_id")
    if activity_id is None:
        content = {name: value for name, value in envelope.items() if name != "_crc"}
        for name, value in content.items():
            check_value(value, name)
        activity_id = derived_id("content", orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode())
    elif not (isinstance(activity_id, str) and _ID.fullmatch(activity_id)):
        raise InvalidEventError("activity_id", "not an id; accepted are 32 lower-case hex digits, or leave it out")
    query_tag = envelope.get("_query_tag")
    if query_tag is not None and not (isinstance(query_tag, str) and _QUERY_TAG.fullmatch(query_tag)):
        raise InvalidEventError("_query_tag", "accepted is cdesk_ and 8 lower-case hex digits")
    return new_event(
        Origin(
            source_version=_text(envelope, "_source_version", origin.source_version),
            session_id=_text(envelope, "_session_id", origin.session_id),
            source_system=_text(envelope, "_source_system", origin.source_system),
        ),
        activity=envelope["activity"],
        customer=envelope.get("customer"),
        feature_json=envelope["feature_json"],
        anonymous_customer_id=envelope.get("anonymous_customer_id"),
        link=envelope.get("link"),
        revenue_impact=envelope.get("revenue_impact"),
        activity_id=activity_id,
        ts=parse_timestamp(envelope["ts"]),
        # Part of the content, not of the call, so that an import repeated is the same bytes.
        query_tag=query_tag or f"cdesk_{activity_id[-8:]}",
        sample_rate=envelope.get("_sample_rate"),
    )


def timestamp(moment: datetime) -> str:
    """Format an aware UTC datetime as an event's ``ts``."""
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def parse_timestamp(value: object) -> str:
    """Normalise an ISO 8601 time to UTC microseconds; without an offset it is taken as UTC (ActivitySchema v2.0).

    Raises:
        InvalidEventError: field ``ts``.
    """
    try:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type]  # TypeError is handled
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return timestamp(moment.astimezone(UTC))
    except (TypeError, ValueError, OverflowError):
        raise InvalidEventError(
            "ts",
            "not a time; accepted is ISO 8601 such as 2026-11-21T04:20:47.123456Z (UTC when without offset)",
        ) from None


def _text(envelope: Mapping[str, object], name: str, default: str) -> str:
    value = envelope.get(name, default)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CUSTOMER_CHARACTERS:
        raise InvalidEventError(name, f"must be a string of 1 to {MAX_CUSTOMER_CHARACTERS} characters")
    check_text(value, name)
    return value


_ENVELOPE = (
    "activity_id",
    "ts",
    "customer",
    "anonymous_customer_id",
    "activity",
    "feature_json",
    "link",
    "revenue_impact",
    "_source_system",
    "_source_version",
    "_session_id",
    "_query_tag",
    "_schema_version",
    "_sample_rate",
    "_crc",
)
