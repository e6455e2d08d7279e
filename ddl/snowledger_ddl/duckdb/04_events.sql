-- ActivitySchema v2.0 over raw_events.
--
-- One json_transform parses the payload once for all columns; an extraction per column parses it each time, and
-- reading all columns takes three times as long. Every member is JSON first, because a transform to VARCHAR
-- would turn a number or an object into text where the contract says NULL. Its JSON text tells the type:
-- a string begins with a quote, an object with a brace.
CREATE OR REPLACE VIEW activities.events AS
WITH parsed AS (
    SELECT
        activity_id,
        json_transform(
            payload,
            '{
                "ts": "JSON",
                "customer": "JSON",
                "anonymous_customer_id": "JSON",
                "activity": "JSON",
                "feature_json": "JSON",
                "revenue_impact": "JSON",
                "link": "JSON",
                "_source_system": "JSON",
                "_source_version": "JSON",
                "_session_id": "JSON",
                "_query_tag": "JSON",
                "_schema_version": "JSON",
                "_sample_rate": "JSON"
            }'
        ) AS p,
        _batch_id,
        _loaded_at
    FROM activities.raw_events
),

typed AS (
    SELECT
        activity_id,
        -- Only UTC: a cast to TIMESTAMP would silently drop any other zone, and it takes 'infinity'.
        CASE WHEN p.ts LIKE '"____-__-__T__:__:__%Z"' THEN TRY_CAST(p.ts ->> '$' AS TIMESTAMP) END AS ts,
        CASE WHEN p.customer LIKE '"%' THEN p.customer ->> '$' END AS customer,
        CASE WHEN p.anonymous_customer_id LIKE '"%' THEN p.anonymous_customer_id ->> '$' END
            AS anonymous_customer_id,
        CASE WHEN p.activity LIKE '"%' THEN p.activity ->> '$' END AS activity,
        CASE WHEN p.feature_json LIKE '{%' THEN p.feature_json END AS feature_json,
        -- Cast from the JSON text, where the string "1.5" keeps its quotes and so is no number.
        TRY_CAST(CAST(p.revenue_impact AS VARCHAR) AS DOUBLE) AS revenue_impact,
        CASE WHEN p.link LIKE '"%' THEN p.link ->> '$' END AS link,
        CASE WHEN p._source_system LIKE '"%' THEN p._source_system ->> '$' END AS _source_system,
        CASE WHEN p._source_version LIKE '"%' THEN p._source_version ->> '$' END AS _source_version,
        CASE WHEN p._session_id LIKE '"%' THEN p._session_id ->> '$' END AS _session_id,
        CASE WHEN p._query_tag LIKE '"%' THEN p._query_tag ->> '$' END AS _query_tag,
        -- A cast alone would round 1.5.
        CASE
            WHEN json_type(p._schema_version) IN ('UBIGINT', 'BIGINT')
                THEN TRY_CAST(CAST(p._schema_version AS VARCHAR) AS INTEGER)
        END AS _schema_version,
        TRY_CAST(CAST(p._sample_rate AS VARCHAR) AS DOUBLE) AS _sample_rate,
        _batch_id,
        _loaded_at
    FROM parsed
)

SELECT
    activity_id,
    ts,
    customer,
    anonymous_customer_id,
    activity,
    feature_json,
    feature_json AS _feature_json,
    revenue_impact,
    link,
    ROW_NUMBER() OVER nth_time AS activity_occurrence,
    LEAD(ts) OVER nth_time AS activity_repeated_at,
    _source_system,
    _source_version,
    _session_id,
    _query_tag,
    _schema_version,
    -- Queries divide by it, so anything else is none.
    CASE WHEN _sample_rate > 0 AND _sample_rate <= 1 THEN _sample_rate END AS _sample_rate,
    _batch_id,
    _loaded_at
FROM typed
-- The SQL printed in the spec partitions by one of the two alone, which is wrong. activity_id breaks ties.
WINDOW
    nth_time AS (
        PARTITION BY activity, COALESCE(customer, anonymous_customer_id)
        ORDER BY ts, activity_id
    );

COMMENT ON COLUMN activities.events.activity_id IS 'Unique id of the event, in hex';
COMMENT ON COLUMN activities.events.ts IS 'When it happened, UTC';
COMMENT ON COLUMN activities.events.customer IS 'Who did it; null only when anonymous_customer_id is set';
COMMENT ON COLUMN activities.events.anonymous_customer_id IS
'Who did it while not yet identified, prefixed with the source';
COMMENT ON COLUMN activities.events.activity IS 'What was done, such as cdesk.tool_called; case-sensitive';
COMMENT ON COLUMN activities.events.feature_json IS
'Features: an object with the same keys on every row of an activity';
COMMENT ON COLUMN activities.events._feature_json IS 'The same value as feature_json, under its other name';
COMMENT ON COLUMN activities.events.revenue_impact IS 'Revenue gained or, negative, lost; one currency per stream';
COMMENT ON COLUMN activities.events.link IS 'URL of what the event is about';
COMMENT ON COLUMN activities.events.activity_occurrence IS
'How many times the customer had done this activity by then, from 1; late events change it';
COMMENT ON COLUMN activities.events.activity_repeated_at IS
'When the customer did this activity next; null for the latest';
COMMENT ON COLUMN activities.events._source_system IS 'System that logged the event, such as claude_desktop';
COMMENT ON COLUMN activities.events._source_version IS 'Version of that system';
COMMENT ON COLUMN activities.events._session_id IS 'Session that the event belongs to';
COMMENT ON COLUMN activities.events._query_tag IS
'cdesk_ and 8 hex digits; finds the event''s queries in the query history';
COMMENT ON COLUMN activities.events._schema_version IS 'Version of the event''s format';
COMMENT ON COLUMN activities.events._sample_rate IS
'Fraction of such events that was kept when this one was, so it stands for 1 / _sample_rate; null when all were';
COMMENT ON COLUMN activities.events._batch_id IS 'SHA-256 of the batch that brought the event';
COMMENT ON COLUMN activities.events._loaded_at IS 'When that batch was loaded, UTC';
COMMENT ON VIEW activities.events IS
'ActivitySchema v2.0 stream, one row per event; a badly typed member of the payload is NULL [{version}]';
