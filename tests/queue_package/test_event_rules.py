"""Each rule of the envelope refuses what breaks it, with a message of its own; what passes round-trips."""

import math
import re
import uuid
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.queue_package.queue_samples import ORIGIN

from snowledger_queue import (
    Event,
    InvalidEventError,
    Origin,
    check_value,
    damage,
    derived_id,
    new_event,
    new_query_tag,
    parse_strict,
    parse_timestamp,
)

EDGE = 2**53 - 1


def make(**members: Any) -> Event:
    defaults: dict[str, Any] = {"activity": "cdesk.user_asked", "customer": "acme", "feature_json": {}}
    return new_event(ORIGIN, **(defaults | members))


def refusal(**members: Any) -> InvalidEventError:
    with pytest.raises(InvalidEventError) as caught:
        make(**members)
    return caught.value


def parsed(event: Event) -> dict[str, Any]:
    fields: dict[str, Any] = orjson.loads(event.line)
    return fields


def nested(levels: int, kind: str = "object") -> dict[str, Any]:
    """An object ``levels`` deep, counting itself."""
    value: Any = {} if kind == "object" else []
    for _ in range(levels - 2):
        value = {"a": value} if kind == "object" else [value]
    return {"a": value}


REFUSED: list[tuple[str, Any, str, str]] = [
    ("activity", None, "activity", "must be a string such as cdesk.user_asked, not null"),
    ("activity", 5, "activity", "must be a string such as cdesk.user_asked, not int"),
    ("activity", "user_asked", "activity", "'user_asked' is not in the cdesk.* namespace"),
    ("activity", "cdesk.", "activity", "is not in the cdesk.* namespace"),
    ("activity", "cdesk.User", "activity", "is not in the cdesk.* namespace"),
    ("activity", "cdesk.a..b", "activity", "is not in the cdesk.* namespace"),
    ("activity", "cdesk.a\n", "activity", "is not in the cdesk.* namespace"),
    ("activity", "cdesk.٣", "activity", "is not in the cdesk.* namespace"),
    ("activity", "xcdesk.a", "activity", "is not in the cdesk.* namespace"),
    ("activity", "cdesk." + "a" * 123, "activity", "longer than 128 characters"),
    ("customer", None, "customer", "must be a string, not null"),
    ("customer", 7, "customer", "must be a string, not int"),
    ("customer", "", "customer", "has 0 characters; accepted are 1 to 255"),
    ("customer", "c" * 256, "customer", "has 256 characters; accepted are 1 to 255"),
    ("customer", "a\tb", "customer", "printable characters"),
    ("customer", "a\0b", "customer", "printable characters"),
    ("customer", "a\ud800b", "customer", "printable characters"),
    ("customer", "a\u2028b", "customer", "printable characters"),
    ("customer", "../a", "customer", "without / and \\"),
    ("customer", "a\\b", "customer", "without / and \\"),
    ("customer", " a", "customer", "no blank at either end"),
    ("anonymous_customer_id", 7, "anonymous_customer_id", "must be a string, not int"),
    ("anonymous_customer_id", "", "anonymous_customer_id", "has 0 characters"),
    ("feature_json", None, "feature_json", "must be a JSON object, not null"),
    ("feature_json", [], "feature_json", "must be a JSON object, not list"),
    ("feature_json", "{}", "feature_json", "must be a JSON object, not str"),
    ("feature_json", {"a": [math.nan]}, "feature_json.a[0]", "nan is not JSON"),
    ("feature_json", {"a": math.inf}, "feature_json.a", "inf is not JSON"),
    ("feature_json", {"a": -math.inf}, "feature_json.a", "-inf is not JSON"),
    ("feature_json", {"a": {"b": "x\ud800"}}, "feature_json.a.b", "lone surrogate (U+D800)"),
    ("feature_json", {"a\udfff": 1}, "feature_json", "lone surrogate (U+DFFF)"),
    ("feature_json", {"a": "\0"}, "feature_json.a", "NUL character"),
    ("feature_json", {"\0": 1}, "feature_json", "NUL character"),
    ("feature_json", {"a": EDGE + 1}, "feature_json.a", "outside ±9007199254740991"),
    ("feature_json", {"a": -EDGE - 1}, "feature_json.a", "outside ±9007199254740991"),
    ("feature_json", {"a": 10**5000}, "feature_json.a", "outside ±9007199254740991"),
    ("feature_json", {1: 1}, "feature_json", "keys must be strings, not int"),
    ("feature_json", {"a": (1,)}, "feature_json.a", "a tuple is not a JSON value"),
    ("feature_json", {"a": b"x"}, "feature_json.a", "a bytes is not a JSON value"),
    ("feature_json", nested(65), "feature_json", "nested deeper than 64 levels"),
    ("feature_json", nested(65, "list"), "feature_json", "nested deeper than 64 levels"),
    ("feature_json", nested(900), "feature_json", "nested deeper than 64 levels"),
    ("link", 5, "link", "must be a URL as a string, not int"),
    ("link", "example.com", "link", "not a URL"),
    ("link", "https://exa mple.com", "link", "not a URL"),
    ("link", "https://a\n", "link", "not a URL"),
    ("link", "https://" + "a" * 2041, "link", "at most 2048 characters"),
    ("link", "https://\ud800", "link", "lone surrogate"),
    ("revenue_impact", "5", "revenue_impact", "must be a number, not str"),
    ("revenue_impact", True, "revenue_impact", "must be a number, not bool"),
    ("revenue_impact", math.nan, "revenue_impact", "nan is not JSON"),
    ("revenue_impact", EDGE + 1, "revenue_impact", "outside ±9007199254740991"),
    ("idempotency_key", 5, "idempotency_key", "must be a string, not int"),
    ("idempotency_key", "", "idempotency_key", "accepted are 1 to 255 characters"),
    ("idempotency_key", "k" * 256, "idempotency_key", "accepted are 1 to 255 characters"),
    ("idempotency_key", "\ud800", "idempotency_key", "lone surrogate"),
    ("idempotency_key", "\0", "idempotency_key", "NUL character"),
]


@pytest.mark.parametrize(("member", "value", "field", "problem"), REFUSED)
def test_what_breaks_a_rule_is_refused_by_name(member: str, value: object, field: str, problem: str) -> None:
    error = refusal(**{member: value})
    assert error.field.startswith(field)
    assert problem in error.problem
    assert str(error) == f"{error.field}: {error.problem}"
    assert not error.transient


ACCEPTED = [
    ("activity", "cdesk.a_1.b"),
    ("activity", "cdesk." + "a" * 122),
    ("customer", "c" * 255),
    ("customer", "Zoë & Söhne 日本 😀"),
    ("feature_json", {"a": [EDGE, -EDGE, 0.1, -0.0, 1e300, True, None, "", {}, []], "": "empty key"}),
    ("feature_json", {"a": "line\nbreak\r\n\u2028\u2029\u0085 and 😀"}),
    ("feature_json", nested(64)),
    ("feature_json", nested(64, "list")),
    ("link", "https://" + "a" * 2040),
    ("link", "file:///a/b"),
    ("revenue_impact", -1.25),
    ("revenue_impact", 0),
    ("anonymous_customer_id", "visitor"),
]


@pytest.mark.parametrize(("member", "value"), ACCEPTED)
def test_what_keeps_the_rules_round_trips_on_one_line(member: str, value: object) -> None:
    event = make(**{member: value})
    assert event.line.endswith(b"}\n")
    assert event.line.count(b"\n") == 1
    assert parsed(event)[member] == value


def test_an_anonymous_customer_may_stand_alone() -> None:
    fields = parsed(make(customer=None, anonymous_customer_id="visitor"))
    assert (fields["customer"], fields["anonymous_customer_id"]) == (None, "visitor")


def test_features_may_have_256_kib_exactly() -> None:
    overhead = len(b'{"a":""}')
    assert len(make(feature_json={"a": "x" * (256 * 1024 - overhead)}).line) > 256 * 1024
    error = refusal(feature_json={"a": "x" * (256 * 1024 - overhead + 1)})
    assert "has 262145 bytes; accepted are up to 262144 (256 KiB)" in str(error)
    # Bytes count, not characters.
    assert "accepted are up to 262144" in str(refusal(feature_json={"a": "é" * (128 * 1024)}))


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-EDGE, EDGE)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab\n\u2028é😀"), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text("abc\n\r\u2028é😀"), JSON_VALUES, max_size=5))
def test_any_accepted_event_is_one_intact_line_with_equal_features(features: dict[str, object]) -> None:
    event = make(feature_json=features)
    assert event.line.count(b"\n") == 1
    assert damage(event.line[:-1]) is None
    assert parsed(event)["feature_json"] == features
    assert parse_strict(event.line) == parsed(event)


@given(st.text(min_size=1), st.sampled_from(["\ud800", "\0", "\x1b[31m\n", "😀" * 400, "k" * 3000]), st.data())
def test_an_error_is_printable_and_short_whatever_it_is_about(text: str, bait: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(text)))
    hostile = text[:position] + bait + text[position:]
    twice = b'{"%b":1,"%b":2}' % ((orjson.dumps("x" + bait.replace("\ud800", ""))[1:-1],) * 2)
    refused: list[Callable[[], object]] = [
        lambda: make(activity=hostile),
        lambda: make(activity="\U0001f600" * 128),
        lambda: make(customer=hostile + "/"),
        lambda: make(link=hostile),
        lambda: make(feature_json={hostile: math.nan}),
        lambda: make(feature_json={hostile: {hostile: [hostile + "\0"]}}),
        lambda: parse_strict(b"x" + hostile.encode("utf-8", "surrogatepass")),
        lambda: parse_strict(twice),
        lambda: parse_timestamp(hostile),
    ]
    for call in refused:
        with pytest.raises(InvalidEventError) as caught:
            call()
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000


STRICT = [
    (b'{"a": NaN}', "NaN is not JSON"),
    (b"[-Infinity]", "-Infinity is not JSON"),
    (b'{"a":1,"a":2}', "the key 'a' is there twice"),
    (b'{"x":{"a":1,"\\u0061":2}}', "the key 'a' is there twice"),
    (b'"\xff"', "byte 1 is not UTF-8"),
    (b'"\xed\xa0\x80"', "byte 1 is not UTF-8"),
    (b"{", "not valid JSON"),
    (b"", "not valid JSON"),
    (b'{"a":1} x', "not valid JSON"),
    (b'"a\nb"', "not valid JSON"),
    (b"[" * 100_000, "nested deeper than 64 levels"),
]


@pytest.mark.parametrize(("text", "problem"), STRICT)
def test_strict_parsing_refuses_what_readers_take_differently(text: bytes, problem: str) -> None:
    with pytest.raises(InvalidEventError, match=re.escape(problem)) as caught:
        parse_strict(text)
    assert caught.value.field == "json"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b'{"a":' + b"9" * 5000 + b"}", "outside ±9007199254740991"),
        (b'{"a":-' + b"9" * 5000 + b"}", "outside ±9007199254740991"),
        (b'{"a":1e999}', "inf is not JSON"),
        (b'{"a":"\\ud800"}', "lone surrogate"),
        (b'{"a":"\\u0000"}', "NUL character"),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "nested deeper than 64 levels"),
    ],
)
def test_what_parses_but_does_not_survive_is_refused_as_a_value(text: bytes, problem: str) -> None:
    with pytest.raises(InvalidEventError, match=re.escape(problem)):
        check_value(parse_strict(text), "json")


def test_a_key_gives_the_same_id_for_the_same_customer_only() -> None:
    def key(name: str, **members: Any) -> str:
        return make(idempotency_key=name, **members).activity_id

    assert key("k") == key("k", feature_json={"other": 1})
    ids = {key("k"), key("k", customer="other"), key("l"), key("k", customer=None, anonymous_customer_id="acme")}
    assert len(ids) == 4
    # Parts are not simply joined.
    assert derived_id("p", "ab", "c") != derived_id("p", "a", "bc")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_derived_id_is_a_uuid_of_version_8(text: str) -> None:
    made = uuid.UUID(derived_id("idempotency", text))
    assert (made.version, made.variant) == (8, uuid.RFC_4122)


def test_new_ids_are_uuids_of_version_7_that_sort_by_time() -> None:
    ids = [make().activity_id for _ in range(2000)]
    assert ids == sorted(set(ids))
    assert all(re.fullmatch("[0-9a-f]{32}", name) and uuid.UUID(name).version == 7 for name in ids)


def test_the_envelope_has_its_members_in_order() -> None:
    event = make(link="https://a", revenue_impact=1.5, anonymous_customer_id="b")
    fields = parsed(event)
    assert list(fields) == [
        "activity_id", "ts", "customer", "anonymous_customer_id", "activity", "feature_json", "link",
        "revenue_impact", "_source_system", "_source_version", "_session_id", "_query_tag", "_schema_version",
        "_crc",
    ]  # fmt: skip
    assert (event.activity_id, event.ts) == (fields["activity_id"], fields["ts"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event.ts)
    assert re.fullmatch("cdesk_[0-9a-f]{8}", fields["_query_tag"])
    assert fields["_source_system"] == "claude_desktop"
    assert new_query_tag() != new_query_tag()


def test_an_origin_is_told_in_every_event() -> None:
    event = new_event(Origin("9.9", "s-9", "other"), activity="cdesk.a", customer="acme", feature_json={"a": 1})
    fields = parsed(event)
    assert [fields[f"_{name}"] for name in ("source_version", "session_id", "source_system")] == [
        "9.9",
        "s-9",
        "other",
    ]


def test_features_over_the_limit_are_refused_before_they_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(*_: object) -> None:
        raise AssertionError("many megabytes would hold the event loop up")

    monkeypatch.setattr("snowledger_queue._rules.check_value", walk)
    with pytest.raises(InvalidEventError, match="256 KiB"):
        new_event(ORIGIN, activity="cdesk.x", customer="a", feature_json={"n": [1] * 200_000})
