"""The view insight_atoms: which insights there are, and which are quarantined."""

from __future__ import annotations

import json
from datetime import datetime

import duckdb
import pytest
from tests.ddl.ddl_samples import (
    START,
    Row,
    atom,
    each,
    event,
    insert,
    only,
    select,
)


def test_an_insight_shows_as_an_atom_and_nothing_else_does(connection: duckdb.DuckDBPyConnection) -> None:
    logged = atom(value={"n": [1]}, valid_from="2026-01-01", valid_to="2026-02-01T00:00:00Z")
    insert(connection, logged, event(), event(activity="cdesk.Insight_recorded"))
    (row,) = select(connection, "FROM activities.insight_atoms")
    assert json.loads(row.pop("value")) == {"n": [1]}
    assert row == {
        "atom_id": logged["activity_id"],
        "customer": "acme",
        "subject": "churn",
        "metric": "rate",
        "provenance_query_hash": "ab" * 32,
        "verified": True,
        "valid_from": datetime(2026, 1, 1),  # noqa: DTZ001 - the column is UTC without a zone
        "valid_to": datetime(2026, 2, 1),  # noqa: DTZ001 - as above
        "recorded_at": START,
        "is_quarantined": False,
        "_session_id": "session-1",
    }


REQUIRED = ["subject", "metric", "provenance_query_hash"]
VALIDITY = ["valid_from", "valid_to"]


@pytest.mark.parametrize(
    "features",
    [
        *({name: value} for name, value in each(REQUIRED, ..., None, "", 5, ["x"], {})),
        {"value": ...},
        *({name: value} for name, value in each(VALIDITY, "", "soon", "infinity", "2026-13-01", 5, {})),
        {"valid_to": "2026-01-01T00:00:00 America/New_York"},
        {"valid_from": "2026-02-01", "valid_to": "2026-01-01"},
        {"valid_from": "2026-02-01", "valid_to": "2026-02-01T00:00:00Z"},
        {"valid_from": "2026-02-01T01:00:00Z", "valid_to": "2026-02-01T02:00:00+02:00"},
    ],
)
def test_an_atom_that_is_not_well_formed_is_quarantined(connection: duckdb.DuckDBPyConnection, features: Row) -> None:
    assert only(connection, "insight_atoms", atom(**features))["is_quarantined"] is True


@pytest.mark.parametrize(
    "features",
    [
        {},
        *({name: value} for name, value in each(["value"], None, False, 0, "", [], {})),
        {"verified": False},
        {"valid_from": ..., "valid_to": ..., "verified": ...},
        {"valid_from": "2026-02-01"},
        {"valid_to": "1999-02-01"},
        {"valid_from": "2026-02-01T00:00:00.000001Z", "valid_to": "2026-02-01 00:00:00.000002"},
        {"valid_from": "2026-02-01T01:00:00+02:00", "valid_to": "2026-01-31T23:30:00Z"},
    ],
)
def test_a_well_formed_atom_is_not_quarantined(connection: duckdb.DuckDBPyConnection, features: Row) -> None:
    assert only(connection, "insight_atoms", atom(**features))["is_quarantined"] is False


@pytest.mark.parametrize("features", [..., None, "text", ["subject"], {}])
def test_an_insight_without_usable_features_is_a_quarantined_atom(
    connection: duckdb.DuckDBPyConnection, features: object
) -> None:
    row = only(connection, "insight_atoms", event(activity="cdesk.insight_recorded", feature_json=features))
    assert row["is_quarantined"] is True
    assert row["verified"] is False


@pytest.mark.parametrize("verified", [True, False, None, 1, "true", ...])
def test_an_atom_is_verified_only_by_a_plain_true(connection: duckdb.DuckDBPyConnection, verified: object) -> None:
    assert only(connection, "insight_atoms", atom(verified=verified))["verified"] is (verified is True)


def test_a_null_value_is_told_from_a_missing_one(connection: duckdb.DuckDBPyConnection) -> None:
    assert only(connection, "insight_atoms", atom(value=None))["value"] == "null"
    assert only(connection, "insight_atoms", atom(value=...))["value"] is None
