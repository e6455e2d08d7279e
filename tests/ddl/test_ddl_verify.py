"""Comparing a warehouse with the contract."""

from __future__ import annotations

import duckdb
import pytest

from snowledger_ddl import Statement, applied_features, apply, pending, render, statements, verify


def test_what_apply_made_is_the_contract(connection: duckdb.DuckDBPyConnection) -> None:
    assert verify(connection, "duckdb") == ()


def test_the_rendered_script_does_what_apply_does() -> None:
    with duckdb.connect() as opened:
        opened.execute(render("duckdb"))
        assert pending(opened, "duckdb") == ()
        assert verify(opened, "duckdb") == ()


def test_without_a_database_every_object_is_absent() -> None:
    objects = dict.fromkeys(statement.object for statement in statements("duckdb"))
    assert verify(None, "duckdb") == tuple(f"{name}: absent" for name in objects)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("DROP VIEW activities.artifacts", ["artifacts: absent"]),
        (
            "ALTER TABLE activities._ingest_ids DROP COLUMN _batch_id",
            ["_ingest_ids._batch_id: absent; it should be VARCHAR"],
        ),
        (
            "ALTER TABLE activities._ingest_ids ALTER activity_id TYPE VARCHAR",
            ["_ingest_ids.activity_id: VARCHAR; it should be UUID"],
        ),
        ("ALTER TABLE activities._ingest_ids ADD COLUMN more INTEGER", []),
        ("COMMENT ON VIEW activities.events IS 'an older one'", ["events: made by another version"]),
    ],
)
def test_each_difference_is_told_exactly(
    connection: duckdb.DuckDBPyConnection, change: str, expected: list[str]
) -> None:
    connection.execute(change)
    assert verify(connection, "duckdb") == tuple(expected)


def test_statements_say_why_they_must_run(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("DROP VIEW activities.artifacts")
    connection.execute("COMMENT ON VIEW activities.events IS 'an older one'")
    reasons = {one.object: one.reason for one in pending(connection, "duckdb")}
    assert reasons == {"events": "made by another version", "artifacts": "absent"}


def test_apply_tells_each_statement_that_ran() -> None:
    ran: list[Statement] = []
    with duckdb.connect() as opened:
        assert apply(opened, "duckdb", ran=ran.append) == tuple(ran) == statements("duckdb")


def test_the_event_tells_the_versions_of_the_objects_that_were_completed() -> None:
    every = statements("duckdb")
    versions = {one.object: one.version for one in every if one.object != "activities"}
    assert applied_features("duckdb", every) == {"warehouse": "duckdb", "objects": versions}
    del versions[every[-1].object]
    assert applied_features("duckdb", every[:-1]) == {"warehouse": "duckdb", "objects": versions}
