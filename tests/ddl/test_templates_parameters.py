"""Parameters of a query: what is accepted, what an error says, what is bound, and which calls are the same query."""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ddl.ddl_samples import each
from tests.ddl.template_samples import loaded

from snowledger_ddl import (
    ParameterError,
    Template,
    bound_parameters,
    checked_parameters,
    load_templates,
    parse_parameter_text,
    query_hash,
    reserved_parameters,
)

MATTER = """\
example = { text = "x", kind = "a" }
[params.text]
type = "string"
max_length = 5
description = "A text."
[params.count]
type = "integer"
default = 3
min = 1
max = 10
description = "A count."
[params.share]
type = "number"
default = 0.5
min = 0
description = "A share."
[params.flag]
type = "boolean"
default = false
description = "A flag."
[params.since]
type = "interval"
default = "7d"
min = "1m"
max = "90d"
description = "A span."
[params.day]
type = "date"
default = 2026-01-31
max = 2026-12-31
description = "A day."
[params.at]
type = "timestamp"
default = 2026-01-31T01:00:00+01:00
description = "A time."
[params.kind]
type = "enum"
values = ["a", "b c"]
description = "A kind."
[params.names]
type = "list"
items = "string"
default = []
max_items = 3
max_length = 4
description = "Names."
[params.spans]
type = "list"
items = "interval"
default = ["90s"]
description = "Spans."
"""
NAMES = ("text", "count", "share", "flag", "since", "day", "at", "kind", "names", "spans")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    folder: Path = tmp_path_factory.mktemp("templates")
    used = " AND ".join(f"${name} IS NOT NULL" for name in ("customer", "now", *NAMES))
    return loaded(folder, "FROM events WHERE " + used, MATTER)


def checked(template: Template, **params: Any) -> dict[str, Any]:
    return checked_parameters(template, {"text": "x", "kind": "a", **params})


def reason(template: Template, name: str, value: object) -> str:
    with pytest.raises(ParameterError) as caught:
        checked(template, **{name: value})
    [[wrong, text]] = caught.value.problems
    assert wrong == name
    return text


def test_defaults_are_filled_in_and_everything_is_normalised(template: Template) -> None:
    assert checked(template) == {
        "text": "x",
        "count": 3,
        "share": 0.5,
        "flag": False,
        "since": 604800,
        "day": "2026-01-31",
        "at": "2026-01-31T00:00:00.000000Z",
        "kind": "a",
        "names": [],
        "spans": [90],
    }


ACCEPTED = [
    ("text", "", ""),
    ("text", "'; --", "'; --"),
    ("text", "東京\n\t\x1b", "東京\n\t\x1b"),
    ("count", 1, 1),
    ("count", 10, 10),
    ("share", 7, 7.0),
    ("share", -0.0, 0.0),
    ("flag", True, True),
    ("since", "90s", 90),
    ("since", "15m", 900),
    ("since", "24h", 86400),
    ("since", "2w", 1209600),
    ("since", 60, 60),
    ("since", 3600.0, 3600),
    ("day", "2024-02-29", "2024-02-29"),
    ("at", "2026-11-21", "2026-11-21T00:00:00.000000Z"),
    ("at", "2026-11-21 04:20", "2026-11-21T04:20:00.000000Z"),
    ("at", "2026-11-21T04:20:47.5-02:30", "2026-11-21T06:50:47.500000Z"),
    ("at", "2026-11-21T04:20:47.123456789Z", "2026-11-21T04:20:47.123456Z"),
    ("kind", "b c", "b c"),
    ("names", ["a", "a", ""], ["a", "a", ""]),
    ("names", ("a",), ["a"]),
    ("spans", ["1h", 5], [3600, 5]),
]


@pytest.mark.parametrize(("name", "value", "normal"), ACCEPTED)
def test_what_is_accepted_takes_its_normal_form(template: Template, name: str, value: object, normal: object) -> None:
    result = checked(template, **{name: value})[name]
    assert result == normal
    assert type(result) is type(normal)
    assert not (isinstance(result, float) and math.copysign(1, result) < 0)


REFUSED = [
    *each(["text"], None, 5, True, ["x"], {"a": 1}, "123456", "a\0", "\ud800"),
    *each(["count"], None, 0, 11, True, "7", 7.0, 1.5, 10**400, math.nan, [7]),
    *each(["share"], None, -0.1, True, "0.5", math.nan, math.inf, 10**400, []),
    *each(["flag"], None, 0, 1, "true", []),
    *each(["since"], "", "7", "7 d", "7D", "-7d", "1.5h", "d", "7dd", "\u0667d", "59s", "91d", "9999999999w"),
    *each(["since"], None, True, 0, -60, 60.5, 10**400, math.inf, ["7d"], "7d\n"),
    *each(["day"], None, 20260131, "2026-02-30", "20260131", "2026-1-31", "2027-01-01", "\uff12026-01-31"),
    *each(["at"], None, 5, "", "now", "infinity", "20261121", "2026-W47-6", "2026-11-21x04:20"),
    *each(["at"], "2026-13-01", "0001-01-01T00:00:00+10:00", "2026-11-21T04:20:47 Europe/Rome"),
    *each(["kind"], None, "c", "A", "", "а", ["a"], 1),  # noqa: RUF001 - the last text is Cyrillic
    *each(["names"], None, "a", {"a": 1}, ["a"] * 4, ["abcde"], ["a", 5], [["a"]], ["a\0"]),
    *each(["spans"], ["7"], [0], [True]),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_what_is_not_accepted_is_refused_with_what_is(template: Template, name: str, value: object) -> None:
    text = reason(template, name, value)
    assert "; accepted: " in text
    assert text.isprintable()
    assert len(text) < 400


def test_a_refusal_says_what_was_sent_and_what_is_accepted(template: Template) -> None:
    assert reason(template, "count", 11) == "11 is not accepted; accepted: an integer from 1 to 10"
    assert reason(template, "since", "91d") == (
        "'91d' is not accepted; "
        "accepted: an interval such as 90s, 15m, 24h, 7d, 2w or a whole number of seconds from 1m to 90d"
    )
    assert reason(template, "kind", "c") == "'c' is not accepted; accepted: one of a, b c"
    assert reason(template, "names", ["a", 5, "abcde"]) == (
        "item 1 is 5, item 2 is 'abcde'; "
        "accepted: a list of at most 3 items, each text of at most 4 characters without NUL"
    )


def test_a_look_alike_shows_for_what_it_is(template: Template) -> None:
    assert reason(template, "kind", "\u0430").startswith("'\\u0430' is not accepted")


def test_an_error_lists_everything_that_is_wrong(template: Template) -> None:
    with pytest.raises(ParameterError) as caught:
        checked_parameters(template, {"count": "7", "colour": "red", "spans": [1, "x"], "names": []})
    assert [name for name, _ in caught.value.problems] == ["colour", "text", "count", "kind", "spans"]
    message = str(caught.value)
    assert f"colour: is no parameter of this template; accepted: {', '.join(NAMES)}" in message
    assert "text: is missing; accepted: text of at most 5 characters" in message


def test_an_error_stays_short_whatever_is_sent(template: Template) -> None:
    long = "x" * 10**6
    many = {f"{'n' * 200}{number}": long for number in range(1000)}
    with pytest.raises(ParameterError) as caught:
        checked(template, **many, text=long, names=[long] * 3, kind={"a": long})
    assert len(str(caught.value)) < 5000
    assert "and 990 more names" in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
LIKELY = {
    "count": st.integers(1, 10),
    "share": st.integers(0, 10**6) | st.floats(0, allow_infinity=False),
    "since": st.integers(60, 90 * 86400) | st.integers(1, 90).map(lambda days: f"{days}d"),
    "day": st.dates(max_value=date(2026, 12, 31)).map(date.isoformat),
    "at": st.datetimes(timezones=st.timezones() | st.none()).map(datetime.isoformat),
    "names": st.lists(st.text(max_size=4), max_size=3),
}


@given(
    params=st.fixed_dictionaries({"text": st.text(max_size=5), "kind": st.sampled_from(["a", "b c"])}, optional=LIKELY)
)
def test_accepted_parameters_are_their_own_normal_form(template: Template, params: dict[str, object]) -> None:
    with suppress(ParameterError):
        once = checked_parameters(template, params)
        assert checked_parameters(template, once) == once
        assert query_hash(template, once) == query_hash(template, json.loads(json.dumps(once)))


@given(params=st.dictionaries(st.sampled_from([*NAMES, "other", "customer", "now"]), JSON))
def test_any_json_is_accepted_or_refused(template: Template, params: dict[str, object]) -> None:
    with suppress(ParameterError):
        once = checked_parameters(template, params)
        assert checked_parameters(template, once) == once
        assert query_hash(template, once) == query_hash(template, json.loads(json.dumps(once)))
        assert bound_parameters(template, once).keys() == set(NAMES)


def test_reserved_names_cannot_be_sent(template: Template) -> None:
    for name in ("customer", "customers", "now"):
        assert "is no parameter" in reason(template, name, "beta")


def test_defaults_cannot_be_changed_through_what_was_checked(template: Template) -> None:
    checked(template)["names"].append("x")
    assert checked(template)["names"] == []


def test_values_are_bound_with_their_types(template: Template) -> None:
    bound = bound_parameters(template, checked(template, spans=["1h"], share=7))
    assert bound["at"] == datetime(2026, 1, 31)  # noqa: DTZ001 - the columns are UTC without a zone
    assert bound["at"].tzinfo is None
    assert bound["day"] == date(2026, 1, 31)
    assert type(bound["day"]) is date
    assert (bound["since"], bound["spans"], bound["names"]) == (604800, [3600], [])
    assert isinstance(bound["share"], float)
    assert list(bound) == list(NAMES)


def test_the_reserved_ones_are_those_that_the_statement_has(template: Template) -> None:
    now = datetime(2026, 11, 21, 6, 20, tzinfo=timezone(timedelta(hours=2)))
    assert reserved_parameters(template, customer="acme", customers=["acme", "beta"], now=now) == {
        "customer": "acme",
        "now": datetime(2026, 11, 21, 4, 20),  # noqa: DTZ001 - the columns are UTC without a zone
    }
    every = load_templates().templates
    names = {
        name: list(reserved_parameters(one, customer="a", customers=["a"], now=now)) for name, one in every.items()
    }
    assert names["active_customers"] == ["customers", "now"]
    assert names["insight_history"] == ["customer"]


def test_the_hash_is_that_of_name_text_and_canonical_parameters(template: Template) -> None:
    parameters = {"kind": "a", "count": 3, "text": "東\n'"}
    canonical = '{"count":3,"kind":"a","text":"東\\n\'"}'
    expected = hashlib.sha256(f"mine\n{template.text}\n{canonical}".encode()).hexdigest()
    assert query_hash(template, parameters) == expected


def test_two_ways_of_saying_one_thing_are_one_query(template: Template) -> None:
    same = [
        {"since": "1d", "share": 1, "at": "2026-01-31T12:00:00Z"},
        {"share": 1.0, "since": "24h", "at": "2026-01-31T14:00+02:00"},
        {"at": "2026-01-31 12:00", "since": 86400, "share": 1.0, "count": 3, "names": []},
    ]
    assert len({query_hash(template, checked(template, **params)) for params in same}) == 1
    assert query_hash(template, checked(template)) != query_hash(template, checked(template, count=4))


def test_a_hash_tells_templates_apart(tmp_path: Path) -> None:
    first = loaded(tmp_path, "SELECT 1 FROM events WHERE customer = $customer", name="first")
    other = loaded(tmp_path, "SELECT 2 FROM events WHERE customer = $customer", name="first")
    named = loaded(tmp_path, "SELECT 1 FROM events WHERE customer = $customer", name="second")
    assert len({query_hash(one, {}) for one in (first, other, named)}) == 3


WORDS = [
    ("count", "7", 7),
    ("count", " -7 ", -7),
    ("count", "7.5", "7.5"),
    ("share", "7", 7.0),
    ("share", "1e-3", 0.001),
    ("share", "nan", "nan"),
    ("flag", "True", True),
    ("flag", "yes", "yes"),
    ("since", "3600", 3600),
    ("since", "7d", "7d"),
    ("text", " 7 ", " 7 "),
    ("kind", "b c", "b c"),
    ("day", "2026-01-31", "2026-01-31"),
    ("names", "", []),
    ("names", "a, b,", ["a", "b", ""]),
    ("names", '["a,b"]', ["a,b"]),
    ("names", "[a", "[a"),
    ("spans", "1h,60", ["1h", 60]),
    ("unknown", "7", "7"),
]


@pytest.mark.parametrize(("name", "text", "value"), WORDS)
def test_words_of_a_command_line_become_typed_values(template: Template, name: str, text: str, value: object) -> None:
    parsed = parse_parameter_text(template, name, text)
    assert parsed == value
    assert type(parsed) is type(value)


@given(name=st.sampled_from(NAMES), text=st.text())
def test_any_words_become_a_value_that_is_checked_or_refused(template: Template, name: str, text: str) -> None:
    with suppress(ParameterError):
        checked(template, **{name: parse_parameter_text(template, name, text)})


def test_a_schema_says_what_is_accepted(template: Template) -> None:
    schemas = {parameter.name: parameter.json_schema() for parameter in template.parameters}
    assert schemas["text"] == {"type": "string", "maxLength": 5, "description": "A text."}
    assert schemas["count"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 10,
        "default": 3,
        "description": "A count.",
    }
    assert schemas["kind"] == {"type": "string", "enum": ["a", "b c"], "description": "A kind."}
    assert schemas["since"]["default"] == "7d"
    assert "from 1m to 90d" in str(schemas["since"]["description"])
    assert schemas["names"]["items"] == {"type": "string", "maxLength": 4}
    assert schemas["spans"]["default"] == ["90s"]
    assert schemas["at"]["default"] == "2026-01-31T00:00:00.000000Z"
    json.dumps(schemas, allow_nan=False)


def test_now_is_bound_in_utc_whatever_the_zone_of_this_machine() -> None:
    template = load_templates().templates["recent_events"]
    moment = datetime(2026, 11, 21, 4, 20, tzinfo=UTC)
    bound = reserved_parameters(template, customer="a", customers=[], now=moment)
    assert bound["now"] == moment.replace(tzinfo=None)
