"""The columns of the warehouse contract: the same names on every warehouse, each with the type that it has there."""

from __future__ import annotations

from collections.abc import Mapping

_KINDS: Mapping[str, Mapping[str, str]] = {
    "duckdb": {
        "text": "VARCHAR",
        "json": "JSON",
        "time": "TIMESTAMP",
        "id": "UUID",
        "count": "BIGINT",
        "version": "INTEGER",
        "amount": "DOUBLE",
        "flag": "BOOLEAN",
    },
    # As SHOW COLUMNS names them.
    "snowflake": {
        "text": "TEXT",
        "json": "VARIANT",
        "time": "TIMESTAMP_NTZ",
        "id": "TEXT",
        "count": "FIXED",
        "version": "FIXED",
        "amount": "REAL",
        "flag": "BOOLEAN",
    },
}

_OBJECTS: Mapping[str, str] = {
    "raw_events": "activity_id text, payload json, _batch_id text, _loaded_at time",
    "_ingest_ids": "activity_id id, _batch_id text",
    "events": (
        "activity_id text, ts time, customer text, anonymous_customer_id text, activity text, feature_json json, "
        "_feature_json json, revenue_impact amount, link text, activity_occurrence count, activity_repeated_at time, "
        "_source_system text, _source_version text, _session_id text, _query_tag text, _schema_version version, "
        "_sample_rate amount, _batch_id text, _loaded_at time"
    ),
    "insight_atoms": (
        "atom_id text, customer text, subject text, metric text, value json, provenance_query_hash text, "
        "verified flag, valid_from time, valid_to time, recorded_at time, is_quarantined flag, _session_id text"
    ),
    "context_cache": "customer text, context json, as_of time",
    "artifacts": (
        "artifact_id text, customer text, ticket_id text, template text, query_hash text, query_tag text, "
        "format text, rows count, bytes count, path text, created_at time, _session_id text"
    ),
}


def contract(dialect: str) -> dict[str, dict[str, str]]:
    """By object and column, in lower case, the type as the warehouse's catalog names it."""
    objects = dict(_OBJECTS)
    if dialect == "snowflake":
        objects["events_live"] = objects["events"]
    kinds = _KINDS[dialect]
    return {
        name: {column: kinds[kind] for column, kind in (entry.split() for entry in columns.split(","))}
        for name, columns in objects.items()
    }
