"""Whatever a row holds becomes JSON that any reader reads right."""

import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.thorough import examples

from snowledger_uploader._samples import MAX_CELL_CHARACTERS, sample_json

MOMENT = datetime(2026, 11, 21, 4, 20, 47, 123456)  # noqa: DTZ001 - as DuckDB gives it

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.decimals(allow_nan=False)
    | st.binary()
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(scalars, inner), max_leaves=10)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (5, 5),
        (2**53, str(2**53)),
        (-(2**53), str(-(2**53))),
        (0.5, 0.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (Decimal("1.50"), 1.5),
        (Decimal("1234567890.12345678"), "1234567890.12345678"),
        (MOMENT, "2026-11-21T04:20:47.123456Z"),
        (MOMENT.replace(tzinfo=UTC), "2026-11-21T04:20:47.123456Z"),
        (MOMENT.replace(tzinfo=timezone(timedelta(hours=2))), "2026-11-21T02:20:47.123456Z"),
        (date(2026, 11, 21), "2026-11-21"),
        (time(4, 20, 47), "04:20:47"),
        (timedelta(days=1, milliseconds=500), 86400.5),
        (b"\x00\xff", "00ff"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ('it\'s "quoted"\n', 'it\'s "quoted"\n'),
        ([1, [None, 2**60]], [1, [None, str(2**60)]]),
        ({"a": {1: MOMENT}}, {"a": {"1": "2026-11-21T04:20:47.123456Z"}}),
    ],
)
def test_each_kind_has_its_form(value: object, expected: object) -> None:
    assert json.loads(sample_json([[value]])) == [[expected]]


def test_long_values_are_cut() -> None:
    text = "x" * 10_000
    [[cut, listed]] = json.loads(sample_json([[text, [text]]]))
    assert cut == "x" * MAX_CELL_CHARACTERS + "…"
    assert len(listed) == MAX_CELL_CHARACTERS + 1


@settings(max_examples=examples(20))
@given(st.lists(st.lists(values, max_size=4), max_size=4))
def test_every_row_becomes_json_of_the_same_shape(rows: list[list[object]]) -> None:
    found = json.loads(sample_json(rows))
    assert [len(row) for row in found] == [len(row) for row in rows]
