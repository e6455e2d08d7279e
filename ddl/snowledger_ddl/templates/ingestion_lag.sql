-- ---
-- answers = "How long events took from being logged to being loaded, by the hour, day or week in which they were loaded."
-- row_limit = 2000
-- example = { bucket = "hour", since = "24h" }
-- [params.bucket]
-- type = "enum"
-- values = ["hour", "day", "week"]
-- default = "hour"
-- description = "How wide a row is; weeks begin on Monday, all times are UTC."
-- [params.since]
-- type = "interval"
-- default = "24h"
-- min = "1h"
-- max = "730d"
-- description = "How far back to look, by the time of loading."
-- [params.imported]
-- type = "boolean"
-- default = false
-- description = "Also events that snowledger import brought, which are as late as they are old."
-- ---
WITH loaded AS (
    SELECT
        CASE $bucket
            WHEN 'hour' THEN DATE_TRUNC('hour', _loaded_at)
            WHEN 'day' THEN DATE_TRUNC('day', _loaded_at)
            ELSE DATE_TRUNC('week', _loaded_at)
        END AS bucket_start,
        DATE_DIFF('millisecond', ts, _loaded_at) / 1000.0 AS lag_s,
        _batch_id
    FROM events
    WHERE
        customer = $customer
        AND _loaded_at >= $now - INTERVAL ($since) SECOND
        AND ($imported OR _source_system IS DISTINCT FROM 'import')
)

SELECT
    bucket_start,
    COUNT(*) AS events,
    COUNT(DISTINCT _batch_id) AS batches,
    MEDIAN(lag_s) AS median_s,
    QUANTILE_CONT(lag_s, 0.95) AS p95_s,
    MAX(lag_s) AS max_s
FROM loaded
GROUP BY bucket_start
ORDER BY bucket_start
