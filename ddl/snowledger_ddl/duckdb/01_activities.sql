-- DuckDB keeps no comment on a schema, so no version is recorded for this one: it is there or it is not.
CREATE SCHEMA IF NOT EXISTS activities;
