-- ---
-- answers = "How often each activity happened, most frequent first."
-- row_limit = 200
-- example = { since = "7d", activities = ["cdesk.tool_called", "cdesk.error_encountered"] }
-- [params.since]
-- type = "interval"
-- default = "7d"
-- min = "1m"
-- max = "730d"
-- description = "How far back to look."
-- [params.activities]
-- type = "list"
-- items = "string"
-- default = []
-- max_items = 50
-- max_length = 128
-- description = "Only these activities; an empty list means all."
-- ---
SELECT
    activity,
    -- An event that was sampled stands for others that were not kept.
    CAST(ROUND(SUM(1 / COALESCE(_sample_rate, 1))) AS BIGINT) AS events,
    COUNT(DISTINCT _session_id) AS sessions,
    MIN(ts) AS first_at,
    MAX(ts) AS last_at
FROM events
WHERE
    customer = $customer
    AND ts >= $now - INTERVAL ($since) SECOND
    AND (ARRAY_LENGTH($activities) = 0 OR LIST_CONTAINS($activities, activity))
GROUP BY activity
ORDER BY events DESC, activity
