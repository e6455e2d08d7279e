"""Events, and what the tests of the warehouse contract ask of a real DuckDB file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import product
from typing import Any
from uuid import uuid4

import duckdb

COLUMNS = {
    "raw_events": {
        "activity_id": "VARCHAR",
        "payload": "JSON",
        "_batch_id": "VARCHAR",
        "_loaded_at": "TIMESTAMP",
    },
    "_ingest_ids": {"activity_id": "UUID", "_batch_id": "VARCHAR"},
    "events": {
        "activity_id": "VARCHAR",
        "ts": "TIMESTAMP",
        "customer": "VARCHAR",
        "anonymous_customer_id": "VARCHAR",
        "activity": "VARCHAR",
        "feature_json": "JSON",
        "_feature_json": "JSON",
        "revenue_impact": "DOUBLE",
        "link": "VARCHAR",
        "activity_occurrence": "BIGINT",
        "activity_repeated_at": "TIMESTAMP",
        "_source_system": "VARCHAR",
        "_source_version": "VARCHAR",
        "_session_id": "VARCHAR",
        "_query_tag": "VARCHAR",
        "_schema_version": "INTEGER",
        "_sample_rate": "DOUBLE",
        "_batch_id": "VARCHAR",
        "_loaded_at": "TIMESTAMP",
    },
    "insight_atoms": {
        "atom_id": "VARCHAR",
        "customer": "VARCHAR",
        "subject": "VARCHAR",
        "metric": "VARCHAR",
        "value": "JSON",
        "provenance_query_hash": "VARCHAR",
        "verified": "BOOLEAN",
        "valid_from": "TIMESTAMP",
        "valid_to": "TIMESTAMP",
        "recorded_at": "TIMESTAMP",
        "is_quarantined": "BOOLEAN",
        "_session_id": "VARCHAR",
    },
    "context_cache": {"customer": "VARCHAR", "context": "JSON", "as_of": "TIMESTAMP"},
    "artifacts": {
        "artifact_id": "VARCHAR",
        "customer": "VARCHAR",
        "ticket_id": "VARCHAR",
        "template": "VARCHAR",
        "query_hash": "VARCHAR",
        "query_tag": "VARCHAR",
        "format": "VARCHAR",
        "rows": "BIGINT",
        "bytes": "BIGINT",
        "path": "VARCHAR",
        "created_at": "TIMESTAMP",
        "_session_id": "VARCHAR",
    },
}

LOADED_AT = datetime(2026, 11, 21, 5)  # noqa: DTZ001 - the column is UTC without a zone
START = datetime(2026, 11, 21, 4, 20, 47, 123456)  # noqa: DTZ001 - as above

Row = dict[str, Any]


def stamp(seconds: float = 0) -> str:
    return (START + timedelta(seconds=seconds)).isoformat(timespec="microseconds") + "Z"


def event(**members: object) -> Row:
    """A complete event; ``name=None`` stands for JSON null, ``name=...`` leaves the member out."""
    complete = {
        "activity_id": uuid4().hex,
        "ts": stamp(),
        "customer": "acme",
        "activity": "cdesk.tool_called",
        "feature_json": {"tool": "search"},
        "_source_system": "claude_desktop",
        "_source_version": "1.2.3",
        "_session_id": "session-1",
        "_query_tag": "cdesk_0123abcd",
        "_schema_version": 1,
        **members,
        "_crc": "00000000",
    }
    return {name: value for name, value in complete.items() if value is not ...}


def atom(**features: object) -> Row:
    complete = {
        "subject": "churn",
        "metric": "rate",
        "value": 0.12,
        "provenance_query_hash": "ab" * 32,
        "valid_from": None,
        "valid_to": None,
        "verified": True,
        **features,
    }
    kept = {name: value for name, value in complete.items() if value is not ...}
    return event(activity="cdesk.insight_recorded", feature_json=kept)


def each(names: Iterable[str], *values: object) -> list[tuple[str, object]]:
    return list(product(names, values))


def insert(
    connection: duckdb.DuckDBPyConnection, *events: Row, batch: str = "batch-1", loaded_at: datetime = LOADED_AT
) -> None:
    connection.executemany(
        "INSERT INTO activities.raw_events VALUES (?, ?, ?, ?)",
        [[one["activity_id"], json.dumps(one), batch, loaded_at] for one in events],
    )


def select(connection: duckdb.DuckDBPyConnection, query: str) -> list[Row]:
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def only(connection: duckdb.DuckDBPyConnection, view: str, one: Row) -> Row:
    connection.execute("DELETE FROM activities.raw_events")
    insert(connection, one)
    (row,) = select(connection, f"FROM activities.{view}")
    return row


def occurrences(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[int, datetime | None]]:
    rows = connection.execute(
        "SELECT activity_id, activity_occurrence, activity_repeated_at FROM activities.events"
    ).fetchall()
    return {activity_id: (count, repeated_at) for activity_id, count, repeated_at in rows}


def plan(connection: duckdb.DuckDBPyConnection, query: str) -> str:
    (row,) = connection.execute(f"EXPLAIN {query}").fetchall()
    return str(row[1]).upper()


class Recording:
    """A connection that notes what it is given and can fail at one statement."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, fails: Callable[[str], bool]) -> None:
        self.connection = connection
        self.fails = fails
        self.seen: list[str] = []

    def execute(self, sql: str, /) -> duckdb.DuckDBPyConnection:
        self.seen.append(sql)
        if self.fails(sql):
            raise duckdb.IOException("the disk is full")
        return self.connection.execute(sql)
