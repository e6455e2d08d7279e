"""An event made of a parsed envelope: what is missing is filled in, the same line is the same event."""

from typing import Any

import orjson
import pytest
from tests.queue_package.queue_samples import ORIGIN, sample_event

from snowledger_queue import Event, InvalidEventError, event_from_envelope, parse_timestamp

SHORT: dict[str, Any] = {
    "activity": "cdesk.user_asked",
    "customer": "acme",
    "ts": "2026-11-21T04:20:47Z",
    "feature_json": {"a": 1},
}


def imported(**members: Any) -> Event:
    return event_from_envelope(SHORT | members, ORIGIN)


def test_a_whole_envelope_is_imported_as_the_same_bytes() -> None:
    event = sample_event(7)
    assert event_from_envelope(orjson.loads(event.line), ORIGIN) == event


def test_a_sampled_event_keeps_its_rate_and_its_checksum_is_the_last_member() -> None:
    event = imported(_sample_rate=0.1)
    members = orjson.loads(event.line)
    assert list(members)[-2:] == ["_sample_rate", "_crc"]
    assert members["_sample_rate"] == 0.1
    assert event_from_envelope(members, ORIGIN) == event


def test_the_same_short_line_is_the_same_event() -> None:
    turned = dict(reversed(SHORT.items()))
    assert imported() == imported() == event_from_envelope(turned, ORIGIN)
    assert imported().activity_id != imported(feature_json={"a": 2}).activity_id
    assert imported().activity_id != imported(customer="other").activity_id


def test_features_as_deep_as_an_event_allows_are_imported() -> None:
    value: dict[str, Any] = {}
    for _ in range(63):
        value = {"a": value}
    assert orjson.loads(imported(feature_json=value).line)["feature_json"] == value
    with pytest.raises(InvalidEventError, match="nested deeper than 64 levels"):
        imported(feature_json={"a": value})


@pytest.mark.parametrize(
    ("members", "field", "problem"),
    [
        ({"colour": 1}, "colour", "unknown member; accepted are activity_id, ts, customer"),
        ({"feature_json": None}, "feature_json", "missing"),
        ({"ts": None}, "ts", "missing"),
        ({"activity": None}, "activity", "missing"),
        ({"customer": None}, "customer", "must be a string, not null"),
        ({"ts": "yesterday"}, "ts", "not a time"),
        ({"ts": 5}, "ts", "not a time"),
        *(({"_sample_rate": rate}, "_sample_rate", "a number above 0, at most 1") for rate in (0, 1.5, -1, True, "1")),
        ({"_schema_version": 2}, "_schema_version", "unknown version"),
        ({"activity_id": "X" * 32}, "activity_id", "32 lower-case hex digits"),
        ({"activity_id": "a" * 31}, "activity_id", "32 lower-case hex digits"),
        ({"activity_id": 5}, "activity_id", "32 lower-case hex digits"),
        ({"_query_tag": "cdesk_1"}, "_query_tag", "cdesk_ and 8 lower-case hex digits"),
        ({"_session_id": ""}, "_session_id", "a string of 1 to 255 characters"),
        ({"_source_version": 1}, "_source_version", "a string of 1 to 255 characters"),
        ({"_source_system": "a\0"}, "_source_system", "NUL character"),
    ],
)
def test_a_bad_member_is_refused_by_name(members: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        imported(**members)
    assert caught.value.field == field
    assert problem in caught.value.problem


def test_a_hostile_member_name_is_told_printably() -> None:
    with pytest.raises(InvalidEventError, match="unknown member") as caught:
        imported(**{"\x1b[31m\ud800" * 500: 1})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("2026-11-21T04:20:47.123456Z", "2026-11-21T04:20:47.123456Z"),
        ("2026-11-21T04:20:47", "2026-11-21T04:20:47.000000Z"),
        ("2026-11-21 06:20:47.5+02:00", "2026-11-21T04:20:47.500000Z"),
        ("2026-11-21", "2026-11-21T00:00:00.000000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_a_time_becomes_utc_with_microseconds(given: str, normal: str) -> None:
    assert parse_timestamp(given) == normal


@pytest.mark.parametrize("given", ["0001-01-01T00:00:00+14:00", "2026-13-01", "", "\ud800", None, 1.5, True])
def test_what_is_no_time_is_refused(given: object) -> None:
    with pytest.raises(InvalidEventError, match="accepted is ISO 8601"):
        parse_timestamp(given)
