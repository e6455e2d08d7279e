-- UUID, not VARCHAR: comparing 128-bit integers makes the anti-join at least twice as fast.
CREATE TABLE IF NOT EXISTS activities._ingest_ids (
    activity_id UUID NOT NULL,
    _batch_id VARCHAR NOT NULL
);

COMMENT ON COLUMN activities._ingest_ids.activity_id IS 'Id of an event that raw_events holds';
COMMENT ON COLUMN activities._ingest_ids._batch_id IS 'SHA-256 of the batch that brought the event';
COMMENT ON TABLE activities._ingest_ids IS
'Which events are loaded, and by which batch; makes loading idempotent [{version}]';
