-- VARCHAR, for Snowflake has no UUID type that compares as a number.
CREATE TABLE IF NOT EXISTS "${database}"."${schema}"._INGEST_IDS (
    activity_id VARCHAR NOT NULL COMMENT 'Id of an event that RAW_EVENTS holds',
    _batch_id VARCHAR NOT NULL COMMENT 'SHA-256 of the batch that brought the event'
);

GRANT SELECT, INSERT ON TABLE "${database}"."${schema}"._INGEST_IDS TO ROLE "${loader_role}";

COMMENT ON TABLE "${database}"."${schema}"._INGEST_IDS IS
'Which events are loaded, and by which batch; makes loading idempotent [{version}]';
