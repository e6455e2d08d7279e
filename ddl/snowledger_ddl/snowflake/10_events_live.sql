-- ActivitySchema v2.0 over RAW_EVENTS, as of this second; EVENTS keeps its result as a table.
--
-- Every construct is one that a dynamic table can refresh incrementally: CTEs, GROUP BY with MIN_BY, window functions
-- over one partition; no current time, no subquery outside FROM.
--
-- AS_VARCHAR and its kin give NULL for a value of another type; a cast would turn a number or an object into text.
CREATE OR REPLACE VIEW "${database}"."${schema}".EVENTS_LIVE (
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
COPY GRANTS
AS
-- The loader inserts an id once. Should a second loader ever run, nothing stops both from inserting it, for Snowflake
-- enforces no key: the row that was loaded first counts.
WITH first_loaded AS (
    SELECT
        activity_id,
        MIN_BY(payload, _loaded_at) AS payload,
        MIN_BY(_batch_id, _loaded_at) AS _batch_id,
        MIN(_loaded_at) AS _loaded_at
    FROM "${database}"."${schema}".RAW_EVENTS
    GROUP BY activity_id
),

parsed AS (
    SELECT
        activity_id,
        AS_VARCHAR(payload:ts) AS ts,
        AS_VARCHAR(payload:customer) AS customer,
        AS_VARCHAR(payload:anonymous_customer_id) AS anonymous_customer_id,
        AS_VARCHAR(payload:activity) AS activity,
        CASE WHEN IS_OBJECT(payload:feature_json) THEN payload:feature_json END AS feature_json,
        AS_DOUBLE(payload:revenue_impact) AS revenue_impact,
        AS_VARCHAR(payload:link) AS link,
        AS_VARCHAR(payload:_source_system) AS _source_system,
        AS_VARCHAR(payload:_source_version) AS _source_version,
        AS_VARCHAR(payload:_session_id) AS _session_id,
        AS_VARCHAR(payload:_query_tag) AS _query_tag,
        AS_INTEGER(payload:_schema_version) AS _schema_version,
        AS_DOUBLE(payload:_sample_rate) AS _sample_rate,
        _batch_id,
        _loaded_at
    FROM first_loaded
),

typed AS (
    SELECT
        activity_id,
        -- Only UTC. AUTO is spelt out, for without it a parameter of the session decides which forms are read.
        CASE
            WHEN ts LIKE '____-__-__T__:__:__%Z' THEN TRY_TO_TIMESTAMP_NTZ(RTRIM(ts, 'Z'), 'AUTO')
        END AS ts,
        customer,
        anonymous_customer_id,
        activity,
        feature_json,
        revenue_impact,
        link,
        _source_system,
        _source_version,
        _session_id,
        _query_tag,
        _schema_version,
        -- Queries divide by it, so anything else is none.
        CASE WHEN _sample_rate > 0 AND _sample_rate <= 1 THEN _sample_rate END AS _sample_rate,
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
    -- The SQL printed in the spec partitions by one of the two alone, which is wrong. activity_id breaks ties.
    ROW_NUMBER() OVER (
        PARTITION BY activity, COALESCE(customer, anonymous_customer_id)
        ORDER BY ts, activity_id
    ) AS activity_occurrence,
    LEAD(ts) OVER (
        PARTITION BY activity, COALESCE(customer, anonymous_customer_id)
        ORDER BY ts, activity_id
    ) AS activity_repeated_at,
    _source_system,
    _source_version,
    _session_id,
    _query_tag,
    _schema_version,
    _sample_rate,
    _batch_id,
    _loaded_at
FROM typed;

GRANT SELECT ON VIEW "${database}"."${schema}".EVENTS_LIVE TO ROLE "${reader_role}";

COMMENT ON VIEW "${database}"."${schema}".EVENTS_LIVE IS
'ActivitySchema v2.0 stream as of now; a badly typed member of the payload is NULL [{version}]';
