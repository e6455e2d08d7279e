-- The stream as a table, a minute behind. It is refreshed only when RAW_EVENTS has changed, so an idle installation
-- lets the warehouse suspend. INCREMENTAL is said, not left to AUTO: a definition that can only be computed anew as a
-- whole is refused here instead of being paid for every minute.
--
-- Queries name a customer and a time. The columns are those of EVENTS_LIVE and have its types.
CREATE OR REPLACE DYNAMIC TABLE "${database}"."${schema}".EVENTS (
    activity_id COMMENT 'Unique id of the event, in hex',
    ts COMMENT 'When it happened, UTC',
    customer COMMENT 'Who did it; null only when anonymous_customer_id is set',
    anonymous_customer_id COMMENT 'Who did it while not yet identified, prefixed with the source',
    activity COMMENT 'What was done, such as cdesk.tool_called; case-sensitive',
    feature_json COMMENT 'Features: an object with the same keys on every row of an activity',
    _feature_json COMMENT 'The same value as feature_json, under its other name',
    revenue_impact COMMENT 'Revenue gained or, negative, lost; one currency per stream',
    link COMMENT 'URL of what the event is about',
    activity_occurrence COMMENT
    'How many times the customer had done this activity by then, from 1; late events change it',
    activity_repeated_at COMMENT 'When the customer did this activity next; null for the latest',
    _source_system COMMENT 'System that logged the event, such as claude_desktop',
    _source_version COMMENT 'Version of that system',
    _session_id COMMENT 'Session that the event belongs to',
    _query_tag COMMENT 'cdesk_ and 8 hex digits; finds the queries of the event in the query history',
    _schema_version COMMENT 'Version of the event''s format',
    _sample_rate COMMENT
    'Fraction of such events that was kept when this one was, so it stands for 1 / _sample_rate; null when all were',
    _batch_id COMMENT 'SHA-256 of the batch that brought the event',
    _loaded_at COMMENT 'When that batch was loaded, UTC'
)
TARGET_LAG = '1 minute'
WAREHOUSE = "${warehouse}"
REFRESH_MODE = INCREMENTAL
INITIALIZE = ON_CREATE
CLUSTER BY (customer, TO_DATE(ts))
COPY GRANTS
AS
SELECT
    activity_id,
    ts,
    customer,
    anonymous_customer_id,
    activity,
    feature_json,
    _feature_json,
    revenue_impact,
    link,
    activity_occurrence,
    activity_repeated_at,
    _source_system,
    _source_version,
    _session_id,
    _query_tag,
    _schema_version,
    _sample_rate,
    _batch_id,
    _loaded_at
FROM "${database}"."${schema}".EVENTS_LIVE;

GRANT SELECT ON DYNAMIC TABLE "${database}"."${schema}".EVENTS TO ROLE "${reader_role}";

ALTER DYNAMIC TABLE "${database}"."${schema}".EVENTS SET
COMMENT = 'ActivitySchema v2.0 stream, one row per event; follows RAW_EVENTS within a minute [{version}]';
