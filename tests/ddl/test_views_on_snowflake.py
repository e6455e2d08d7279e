"""The views of Snowflake answer what those of DuckDB answer, as far as the fake's functions are Snowflake's.

Events of every odd form go into both. A dynamic table is a view in the fake, so nothing has to be waited for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain

import duckdb
import pytest
import snowflake.connector
from tests.ddl.ddl_samples import COLUMNS, LOADED_AT, Row, atom, event, insert, stamp
from tests.fake_snowflake.control import FakeSnowflake

from snowledger_ddl import SnowflakeNames, apply

Both = tuple[duckdb.DuckDBPyConnection, FakeSnowflake]

ODD = [..., None, "", "text", 5, 1.5, True, ["x"], {"a": None, "b": [1]}]
MEMBERS = ["ts", "customer", "anonymous_customer_id", "activity", "feature_json", "revenue_impact", "link"]
MEMBERS += ["_source_system", "_source_version", "_session_id", "_query_tag", "_schema_version", "_sample_rate"]
TIMES = [
    *("2026-11-21T04:20:47Z", "2026-11-21T04:20:47.5Z", "2026-11-21T04:20:47.123456Z", "2026-11-21 04:20:47Z"),
    *("2026-11-21T04:20:47+01:00", "2026-11-21T04:20:47", "2026-11-21", "2026-13-21T04:20:47Z", "infinity", "now"),
]
VALIDITY = [
    *("2026-02-01", "2026-02-01T05:06", "2026-02-01 05:06:07", "2026-02-01T05:06:07.000001Z", "2026-02-01T05:06:07Z"),
    *("2026-02-01T05:06:07+02:00", "2026-02-01 05:06:07-0330", "2026-02-01T05:06:07.5+02", "2026-02-30", "0001-01-01"),
    *("soon", "infinity", "2026-02-01T00:00:00 America/New_York", "2026-02-01T00:00:00 UTC", "20260201", "12"),
]
ARTIFACT: Row = {
    "artifact_id": "a1",
    "ticket_id": "t1",
    "template": "activity_counts",
    "query_hash": "ab" * 32,
    "query_tag": "cdesk_89abcdef",
    "format": "parquet",
    "rows": 12,
    "bytes": 3456,
    "path": "artifacts/a1.parquet",
}


def artifact(**features: object) -> Row:
    kept = {name: value for name, value in {**ARTIFACT, **features}.items() if value is not ...}
    return event(activity="cdesk.artifact_created", feature_json=kept)


def events() -> Iterator[Row]:
    for second in range(3):  # of which some repeat, and two happen at once
        yield event(ts=stamp(second // 2), customer="acme")
        yield event(ts=stamp(second // 2), customer=None, anonymous_customer_id="web:7")
    for member in MEMBERS:
        yield from (event(**{member: value}) for value in ODD)
    yield from (event(ts=text) for text in TIMES)
    yield from (event(_sample_rate=rate) for rate in (0.1, 1, 0, -0.5, "0.5"))
    for member in ["subject", "metric", "value", "provenance_query_hash", "verified", "valid_from", "valid_to"]:
        yield from (atom(**{member: value}) for value in ODD)
    for text in VALIDITY:
        yield from (atom(valid_from=text), atom(valid_to=text), atom(valid_from="2026-02-01T03:06:07Z", valid_to=text))
    for member in ARTIFACT:
        yield from (artifact(**{member: value}) for value in ODD)
    yield from (
        event(activity=f"cdesk.{kind}", feature_json="text") for kind in ("insight_recorded", "artifact_created")
    )


@pytest.fixture(scope="module")
def both(fake_server: FakeSnowflake) -> Iterator[Both]:
    """A DuckDB database and a fake account that hold the same events."""
    fake_server.clear()
    every = list(events())
    with (
        duckdb.connect() as ours,
        closing(snowflake.connector.connect(**fake_server.connection_options(paramstyle="qmark"))) as connection,
    ):
        apply(ours, "duckdb")
        insert(ours, *every)
        cursor = connection.cursor()
        apply(cursor, "snowflake", SnowflakeNames())
        load = (
            'INSERT INTO "CLAUDE_LOGS"."ACTIVITIES".RAW_EVENTS '  # noqa: S608 - question marks
            "SELECT column1, PARSE_JSON(column2), ?, CAST(? AS TIMESTAMP_NTZ) "
            f"FROM VALUES {', '.join(['(?, ?)'] * len(every))}"
        )
        cursor.execute(
            load, ["batch-1", str(LOADED_AT), *chain(*((one["activity_id"], json.dumps(one)) for one in every))]
        )
        # Another loader has brought the same ids later: the first one counts.
        cursor.execute(load, ["batch-2", "2027-01-01", *chain(*((one["activity_id"], "{}") for one in every))])
        yield ours, fake_server


def answers(both: Both, columns: str, view: str) -> tuple[Sequence[Sequence[object]], Sequence[Sequence[object]]]:
    """What DuckDB answers and what the fake."""
    ours, fake = both
    return (
        ours.execute(f"SELECT {columns} FROM activities.{view} ORDER BY ALL").fetchall(),  # noqa: S608 - our own words
        fake.sql(f'SELECT {columns} FROM "CLAUDE_LOGS"."ACTIVITIES".{view} ORDER BY ALL'),  # noqa: S608 - as above
    )


@pytest.mark.parametrize("view", ["events", "insight_atoms", "artifacts"])
def test_a_view_has_the_same_rows(both: Both, view: str) -> None:
    # As text, with the times of one form.
    expected, found = answers(both, ", ".join(f'CAST("{name}" AS VARCHAR)' for name in COLUMNS[view]), view)
    assert len(expected) > 80
    assert list(map(tuple, found)) == list(map(tuple, expected))


def test_the_contexts_are_the_same(both: Both) -> None:
    expected, found = answers(both, "customer, CAST(context AS VARCHAR)", "context_cache")
    assert len(expected) > 1
    for theirs, own in zip(found, expected, strict=True):
        assert theirs[0] == own[0]
        assert json.loads(str(theirs[1])) == json.loads(str(own[1]))
