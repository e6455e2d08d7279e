"""The rules of an event's members; each broken one gets its own message."""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING

import orjson

from ._errors import InvalidEventError
from ._json import check_text, check_value

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FEATURE_BYTES = 256 * 1024
"""Larger features belong into an artifact: 64 such events already fill a segment."""

MAX_CUSTOMER_CHARACTERS = 255
MAX_ACTIVITY_CHARACTERS = 128
"""Room for a readable dotted name; it is a grouping key in every query."""

MAX_LINK_CHARACTERS = 2048
"""The length of a URL that browsers and proxies agree on."""

MAX_KEY_CHARACTERS = 255

OPERATIONAL_CUSTOMER = "snowledger"
"""Whose activity the product's own events are (receipts, for one); nobody may log as this customer over MCP."""

RESERVED_ACTIVITIES: Mapping[str, str] = {
    "cdesk.insight_recorded": "is written by the tool log_insight, which records provenance; call that",
    **dict.fromkeys(
        (
            "cdesk.batch_loaded",
            "cdesk.backpressure",
            "cdesk.schema_drift_detected",
            "cdesk.schema_applied",
            "cdesk.kill_switch_changed",
        ),
        "is written by snowledger itself, so that its own records can be trusted; choose another name",
    ),
}
"""Activities that nobody else may write: receipts and provenance would be worth nothing otherwise."""

_MAX_SHOWN = 60
"""Characters of a wrong value that its error repeats: up to ten times as many once escaped."""

_ACTIVITY = re.compile(r"cdesk\.[a-z0-9_]+(\.[a-z0-9_]+)*")
_LINK = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")


def check_activity(activity: object) -> None:
    """Check an activity's name. Raises ``InvalidEventError``."""
    if not isinstance(activity, str):
        raise InvalidEventError("activity", f"must be a string such as cdesk.user_asked, not {type_name(activity)}")
    if len(activity) > MAX_ACTIVITY_CHARACTERS:
        raise InvalidEventError("activity", f"longer than {MAX_ACTIVITY_CHARACTERS} characters")
    if not _ACTIVITY.fullmatch(activity):
        raise InvalidEventError(
            "activity",
            f"{activity[:_MAX_SHOWN]!a} is not in the cdesk.* namespace; accepted is cdesk. and a name of lower-case "
            "letters, digits, _ and dots, such as cdesk.user_asked",
        )


def check_customer(customer: object, field: str = "customer") -> None:
    """Check a customer's id. Raises ``InvalidEventError``."""
    if not isinstance(customer, str):
        raise InvalidEventError(field, f"must be a string, not {type_name(customer)}")
    if not 0 < len(customer) <= MAX_CUSTOMER_CHARACTERS:
        raise InvalidEventError(field, f"has {len(customer)} characters; accepted are 1 to {MAX_CUSTOMER_CHARACTERS}")
    if not customer.isprintable() or customer != customer.strip() or "/" in customer or "\\" in customer:
        raise InvalidEventError(field, "accepted are printable characters without / and \\, and no blank at either end")


def encoded_features(features: object) -> bytes:
    """``feature_json`` as JSON bytes, checked. Raises ``InvalidEventError``."""
    if not isinstance(features, dict):
        raise InvalidEventError("feature_json", f"must be a JSON object, not {type_name(features)}")
    try:
        encoded = orjson.dumps(features)
    except TypeError:  # not UTF-8, beyond 64 bits or nested too deeply: the walk says which and where
        encoded = b""
    # Before the values, for a walk through many megabytes would hold the event loop up.
    if len(encoded) > MAX_FEATURE_BYTES:
        raise InvalidEventError(
            "feature_json",
            f"has {len(encoded)} bytes; accepted are up to {MAX_FEATURE_BYTES} (256 KiB): store the rest elsewhere "
            "and put its address in link",
        )
    check_value(features, "feature_json")
    return encoded


def checked_key(key: object) -> str:
    """The idempotency key, checked. Raises ``InvalidEventError``."""
    if not isinstance(key, str):
        raise InvalidEventError("idempotency_key", f"must be a string, not {type_name(key)}")
    if not 0 < len(key) <= MAX_KEY_CHARACTERS:
        raise InvalidEventError("idempotency_key", f"accepted are 1 to {MAX_KEY_CHARACTERS} characters")
    check_text(key, "idempotency_key")
    return key


def check_link(link: object) -> None:
    """Check a link. Raises ``InvalidEventError``."""
    if not isinstance(link, str):
        raise InvalidEventError("link", f"must be a URL as a string, not {type_name(link)}")
    check_text(link, "link")
    if len(link) > MAX_LINK_CHARACTERS or not link.isprintable() or not _LINK.fullmatch(link):
        raise InvalidEventError(
            "link",
            f"not a URL; accepted is one such as https://example.com/a, at most {MAX_LINK_CHARACTERS} characters",
        )


def check_revenue(revenue: object) -> None:
    """Check a revenue impact. Raises ``InvalidEventError``."""
    if isinstance(revenue, bool) or not isinstance(revenue, int | float):
        raise InvalidEventError("revenue_impact", f"must be a number, not {type_name(revenue)}")
    if isinstance(revenue, float) and not isfinite(revenue):
        raise InvalidEventError("revenue_impact", f"{revenue} is not JSON; send a finite number")
    check_value(revenue, "revenue_impact")


def check_sample_rate(rate: object) -> None:
    """Check the fraction of events that were kept. Raises ``InvalidEventError``."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1:
        raise InvalidEventError("_sample_rate", "accepted is a number above 0, at most 1, or leave it out")


def type_name(value: object) -> str:
    """A value's type in the words of an error."""
    return "null" if value is None else type(value).__name__
