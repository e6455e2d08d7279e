"""Applying the contract: idempotent, complete after any interruption, silent when nothing is to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from tests.ddl.ddl_samples import (
    COLUMNS,
    Recording,
    event,
    insert,
    occurrences,
)
from tests.thorough import THOROUGH

from snowledger_ddl import Connection, DdlError, Statement, apply, pending, statements


def test_a_duckdb_connection_is_a_connection_of_the_runner() -> None:
    with duckdb.connect() as opened:
        accepted: Connection = opened
        assert pending(accepted, "duckdb") == statements("duckdb")


def test_statements_come_in_file_order_one_object_per_file() -> None:
    every = statements("duckdb")
    files = list(dict.fromkeys(statement.file for statement in every))
    assert files == sorted(files)
    objects = list(dict.fromkeys((statement.file, statement.object) for statement in every))
    assert [name for _, name in objects] == ["activities", *COLUMNS]


def test_no_statement_is_left_empty_or_unrendered() -> None:
    for statement in statements("duckdb"):
        lines = [line for line in statement.sql.splitlines() if not line.lstrip().startswith("--")]
        assert lines[0].startswith(("CREATE ", "COMMENT ON ")), statement
        assert "{version}" not in statement.sql
        assert ";" not in " ".join(lines).split("'")[0]


def test_an_unknown_dialect_is_refused_with_those_that_exist() -> None:
    with pytest.raises(DdlError, match=r"'oracle'.*duckdb"):
        statements("oracle")


def test_apply_creates_every_column_of_the_contract_with_its_type(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    for name, columns in COLUMNS.items():
        described = connection.execute(f"DESCRIBE activities.{name}").fetchall()
        assert {column: kind for column, kind, *_ in described} == columns
        assert [column for column, *_ in described] == list(columns)


def test_columns_of_the_tables_are_never_null(connection: duckdb.DuckDBPyConnection) -> None:
    for name in ("raw_events", "_ingest_ids"):
        described = connection.execute(f"DESCRIBE activities.{name}").fetchall()
        assert {nullable for _, _, nullable, *_ in described} == {"NO"}


def test_every_object_and_column_has_a_comment(connection: duckdb.DuckDBPyConnection) -> None:
    missing = connection.execute("""
        SELECT table_name, column_name FROM duckdb_columns()
        WHERE schema_name = 'activities' AND COALESCE(comment, '') = ''
        UNION ALL
        SELECT table_name, NULL FROM information_schema.tables
        WHERE table_schema = 'activities' AND COALESCE(table_comment, '') = ''
    """).fetchall()
    assert missing == []


def test_a_second_apply_writes_nothing_and_begins_no_transaction(path: Path) -> None:
    with duckdb.connect(path) as opened:
        assert apply(opened, "duckdb") == statements("duckdb")
    before = path.stat().st_mtime_ns, path.read_bytes()
    with duckdb.connect(path) as opened:
        recording = Recording(opened, fails=lambda _: False)
        assert apply(recording, "duckdb") == ()
        assert len(recording.seen) == 1
        assert not path.with_name(path.name + ".wal").exists()
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before


def test_what_one_process_applied_is_up_to_date_for_the_next(path: Path) -> None:
    script = (
        "import sys, duckdb, snowledger_ddl\n"
        "with duckdb.connect(sys.argv[1]) as opened:\n"
        "    print(len(snowledger_ddl.apply(opened, 'duckdb')))"
    )
    command = [sys.executable, "-c", script, str(path)]
    applied = [subprocess.run(command, capture_output=True, check=True, timeout=30).stdout for _ in range(2)]
    assert [int(count) for count in applied] == [len(statements("duckdb")), 0]


def test_apply_keeps_the_events_that_are_there(path: Path) -> None:
    with duckdb.connect(path) as opened:
        apply(opened, "duckdb")
        insert(opened, event(activity_id="a" * 32))
        opened.execute("COMMENT ON TABLE activities.raw_events IS 'another text made this'")
    with duckdb.connect(path) as opened:
        assert {statement.object for statement in apply(opened, "duckdb")} == {"raw_events"}
        assert list(occurrences(opened)) == ["a" * 32]


def test_only_the_objects_that_another_text_made_are_replaced(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("CREATE OR REPLACE VIEW activities.events AS SELECT 1 AS something_older")
    assert {statement.object for statement in pending(connection, "duckdb")} == {"events"}
    apply(connection, "duckdb")
    assert pending(connection, "duckdb") == ()
    assert len(connection.execute("DESCRIBE activities.events").fetchall()) == len(COLUMNS["events"])


def test_a_dropped_object_comes_back(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("DROP VIEW activities.insight_atoms")
    assert {statement.object for statement in apply(connection, "duckdb")} == {"insight_atoms"}
    assert connection.execute("SELECT count(*) FROM activities.insight_atoms").fetchall() == [(0,)]


@pytest.mark.parametrize("done", range(0, len(statements("duckdb")) + 1, 1 if THOROUGH else 3))
def test_apply_completes_what_was_applied_up_to_any_statement(done: int) -> None:
    with duckdb.connect() as opened:
        for statement in statements("duckdb")[:done]:
            opened.execute(statement.sql)
        apply(opened, "duckdb")
        assert pending(opened, "duckdb") == ()
        for name, columns in COLUMNS.items():
            assert len(opened.execute(f"DESCRIBE activities.{name}").fetchall()) == len(columns)


@pytest.mark.parametrize("failing", statements("duckdb")[::7], ids=lambda statement: statement.object)
def test_a_failed_apply_names_the_statement_and_leaves_nothing_behind(path: Path, failing: Statement) -> None:
    with duckdb.connect(path) as opened:
        with pytest.raises(DdlError) as caught:
            apply(Recording(opened, fails=lambda sql: sql == failing.sql), "duckdb")
        assert failing.file in str(caught.value)
        assert failing.sql in str(caught.value)
        assert caught.value.statement == failing
        assert isinstance(caught.value.__cause__, duckdb.IOException)
        assert pending(opened, "duckdb") == statements("duckdb")
        apply(opened, "duckdb")
    with duckdb.connect(path, read_only=True) as opened:
        assert pending(opened, "duckdb") == ()


@pytest.mark.parametrize("failing", ["BEGIN TRANSACTION", "COMMIT"])
def test_a_transaction_that_cannot_begin_or_commit_is_a_ddl_error(failing: str) -> None:
    with duckdb.connect() as opened:
        with pytest.raises(DdlError, match="disk is full") as caught:
            apply(Recording(opened, fails=lambda sql: sql == failing), "duckdb")
        assert isinstance(caught.value.__cause__, duckdb.IOException)
        assert len(apply(opened, "duckdb")) == len(statements("duckdb"))


def test_an_unreadable_catalog_is_a_ddl_error() -> None:
    with duckdb.connect() as opened, pytest.raises(DdlError, match=r"applied\.sql"):
        apply(Recording(opened, fails=lambda _: True), "duckdb")
