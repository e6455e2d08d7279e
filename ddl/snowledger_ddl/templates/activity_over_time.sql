-- ---
-- answers = "How many events there were in each hour, day or week, oldest first; of one activity or of all."
-- row_limit = 2000
-- example = { bucket = "hour", since = "24h" }
-- [params.bucket]
-- type = "enum"
-- values = ["hour", "day", "week", "month"]
-- default = "day"
-- description = "How wide a row is; weeks begin on Monday, all times are UTC."
-- [params.since]
-- type = "interval"
-- default = "30d"
-- min = "1h"
-- max = "730d"
-- description = "How far back to look."
-- [params.activity]
-- type = "string"
-- default = ""
-- max_length = 128
-- description = "Only this activity, such as cdesk.tool_called; empty means all."
-- ---
WITH logged AS (
    SELECT
        CASE $bucket
            WHEN 'hour' THEN DATE_TRUNC('hour', ts)
            WHEN 'day' THEN DATE_TRUNC('day', ts)
            WHEN 'week' THEN DATE_TRUNC('week', ts)
            ELSE DATE_TRUNC('month', ts)
        END AS bucket_start,
        _sample_rate,
        _session_id
    FROM events
    WHERE
        customer = $customer
        AND ts >= $now - INTERVAL ($since) SECOND
        AND ($activity = '' OR activity = $activity)
)

SELECT
    bucket_start,
    -- An event that was sampled stands for others that were not kept.
    CAST(ROUND(SUM(1 / COALESCE(_sample_rate, 1))) AS BIGINT) AS events,
    COUNT(DISTINCT _session_id) AS sessions
FROM logged
GROUP BY bucket_start
ORDER BY bucket_start
