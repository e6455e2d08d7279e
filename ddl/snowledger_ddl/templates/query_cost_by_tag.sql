-- ---
-- answers = "What the queries cost: runs, failures, time, rows, bytes and estimated credits by tag; the dearest first."
-- row_limit = 1000
-- example = { since = "30d", by = "template" }
-- [params.since]
-- type = "interval"
-- default = "7d"
-- min = "1h"
-- max = "730d"
-- description = "How far back to look."
-- [params.by]
-- type = "enum"
-- values = ["tag", "template"]
-- default = "tag"
-- description = "tag: a row for each query tag and its template; template: one for each template."
-- ---
WITH completed AS (
    SELECT
        CASE $by WHEN 'tag' THEN COALESCE(feature_json ->> '$.query_tag', _query_tag) END AS query_tag,
        feature_json ->> '$.template' AS template,
        feature_json ->> '$.status' AS status,
        TRY_CAST(feature_json ->> '$.ms' AS DOUBLE) AS ms,
        TRY_CAST(feature_json ->> '$.rows' AS BIGINT) AS row_count,
        TRY_CAST(feature_json ->> '$.bytes' AS BIGINT) AS byte_count,
        TRY_CAST(feature_json ->> '$.credits_estimate' AS DOUBLE) AS credits
    FROM events
    WHERE
        customer = $customer
        AND activity = 'cdesk.sql_completed'
        AND ts >= $now - INTERVAL ($since) SECOND
)

SELECT
    query_tag,
    template,
    COUNT(*) AS queries,
    COUNT(*) FILTER (WHERE status <> 'succeeded') AS not_succeeded,
    ROUND(COALESCE(SUM(CASE WHEN ms BETWEEN 0 AND 1e12 THEN ms END), 0) / 1000.0, 3) AS seconds,
    CAST(COALESCE(SUM(CASE WHEN row_count BETWEEN 0 AND 1000000000000 THEN row_count END), 0) AS BIGINT) AS result_rows,
    CAST(COALESCE(SUM(CASE WHEN byte_count BETWEEN 0 AND 1000000000000 THEN byte_count END), 0) AS BIGINT)
        AS result_bytes,
    ROUND(SUM(CASE WHEN credits BETWEEN 0 AND 1e9 THEN credits END), 6) AS credits_estimate
FROM completed
GROUP BY query_tag, template
ORDER BY credits_estimate DESC NULLS LAST, seconds DESC, query_tag, template
