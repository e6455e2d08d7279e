-- ---
-- answers = "What rests on a query: when the query of this hash was run, which artifacts it left, which insights cite it."
-- row_limit = 1000
-- example = { query_hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" }
-- [params.query_hash]
-- type = "string"
-- max_length = 64
-- description = "The hash: 64 hex digits, as submit_query and get_context show it."
-- ---
SELECT
    ts,
    activity,
    feature_json ->> '$.template' AS template,
    feature_json ->> '$.subject' AS subject,
    feature_json ->> '$.metric' AS metric,
    feature_json ->> '$.value' AS value,
    feature_json ->> '$.status' AS status,
    activity_id AS event_id,
    _session_id AS session_id,
    _query_tag AS query_tag,
    -- snowledger for what the query runner and nobody else logged
    _source_system AS source
FROM events
WHERE
    customer = $customer
    AND activity IN (
        'cdesk.sql_executed', 'cdesk.sql_completed', 'cdesk.artifact_created', 'cdesk.insight_recorded'
    )
    AND COALESCE(
        feature_json ->> '$.query_hash', feature_json ->> '$.provenance_query_hash'
    ) = LOWER($query_hash)
ORDER BY ts, event_id
