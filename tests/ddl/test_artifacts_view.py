"""The view artifacts: which results of queries were kept."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
from tests.ddl.ddl_samples import START, Row, each, event, insert, only, select

FEATURES: dict[str, Any] = {
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
    kept = {name: value for name, value in {**FEATURES, **features}.items() if value is not ...}
    return event(activity="cdesk.artifact_created", feature_json=kept)


def test_an_artifact_shows_with_all_that_was_logged_and_nothing_else_does(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    insert(connection, artifact(), event(), event(activity="cdesk.sql_completed", feature_json=FEATURES))
    rows = select(connection, "FROM activities.artifacts")
    assert rows == [{**FEATURES, "customer": "acme", "created_at": START, "_session_id": "session-1"}]


TEXTS = ["ticket_id", "template", "query_hash", "format", "path"]


@pytest.mark.parametrize(("name", "value"), each(TEXTS, ..., None, 5, True, ["x"], {"x": 1}))
def test_a_missing_or_badly_typed_text_is_null_and_the_others_stay(
    connection: duckdb.DuckDBPyConnection, name: str, value: object
) -> None:
    row = only(connection, "artifacts", artifact(**{name: value}))
    assert row[name] is None
    assert row["rows"] == FEATURES["rows"]


@pytest.mark.parametrize(("name", "value"), each(["rows", "bytes"], ..., None, "5", 1.5, True, 2**70, [1], {}))
def test_what_is_no_whole_number_is_no_count(connection: duckdb.DuckDBPyConnection, name: str, value: object) -> None:
    row = only(connection, "artifacts", artifact(**{name: value}))
    assert row[name] is None
    assert row["path"] == FEATURES["path"]


@pytest.mark.parametrize("value", [..., None, 5, ["x"]])
def test_an_artifact_without_an_id_or_tag_has_those_of_its_event(
    connection: duckdb.DuckDBPyConnection, value: object
) -> None:
    logged = artifact(artifact_id=value, query_tag=value)
    row = only(connection, "artifacts", logged)
    assert (row["artifact_id"], row["query_tag"]) == (logged["activity_id"], "cdesk_0123abcd")


@pytest.mark.parametrize("features", [..., None, "text", ["path"], {}])
def test_an_artifact_without_usable_features_is_still_an_artifact(
    connection: duckdb.DuckDBPyConnection, features: object
) -> None:
    row = only(connection, "artifacts", event(activity="cdesk.artifact_created", feature_json=features))
    assert row["customer"] == "acme"
    assert {row[name] for name in (*TEXTS, "rows", "bytes")} == {None}
