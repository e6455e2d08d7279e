-- No PRIMARY KEY: it would not be enforced. The loader keeps activity_id unique by an anti-join with _INGEST_IDS.
-- No clustering: rows come in the order of _loaded_at, which is how the uploader looks for new ones.
-- payload is VARIANT, which keeps the values of an event but not its bytes: its checksum cannot be checked any more.
-- Change tracking lets EVENTS refresh incrementally.
CREATE TABLE IF NOT EXISTS "${database}"."${schema}".RAW_EVENTS (
    activity_id VARCHAR NOT NULL COMMENT 'Id of the event; one row each, in hex',
    payload VARIANT NOT NULL COMMENT 'The whole event as it was logged, checksum included',
    _batch_id VARCHAR NOT NULL COMMENT 'SHA-256 of the batch that brought the event',
    _loaded_at TIMESTAMP_NTZ NOT NULL COMMENT 'When that batch was loaded, UTC'
)
CHANGE_TRACKING = TRUE;

-- The receipt of a batch is looked up by its id after a lost reply. Enterprise edition only: ${search_optimization}
ALTER TABLE "${database}"."${schema}".RAW_EVENTS ADD SEARCH OPTIMIZATION ON EQUALITY (activity_id);

-- Append-only: nobody may update or delete.
GRANT SELECT, INSERT ON TABLE "${database}"."${schema}".RAW_EVENTS TO ROLE "${loader_role}";

COMMENT ON TABLE "${database}"."${schema}".RAW_EVENTS IS
'Landing table, append-only: every event as it was logged [{version}]';
