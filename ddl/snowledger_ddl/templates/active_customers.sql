-- ---
-- answers = "Which customers were active, how much, on how many days, and when last; the busiest first."
-- scope = "allowed"
-- row_limit = 1000
-- example = { since = "30d", min_events = 1 }
-- [params.since]
-- type = "interval"
-- default = "30d"
-- min = "1h"
-- max = "730d"
-- description = "How far back to look."
-- [params.min_events]
-- type = "integer"
-- default = 1
-- min = 1
-- max = 1000000000
-- description = "Only customers with at least so many events."
-- ---
SELECT
    customer,
    -- An event that was sampled stands for others that were not kept.
    CAST(ROUND(SUM(1 / COALESCE(_sample_rate, 1))) AS BIGINT) AS events,
    COUNT(DISTINCT _session_id) AS sessions,
    COUNT(DISTINCT DATE_TRUNC('day', ts)) AS active_days,
    MIN(ts) AS first_at,
    MAX(ts) AS last_at
FROM events
WHERE
    LIST_CONTAINS($customers, customer)
    AND ts >= $now - INTERVAL ($since) SECOND
GROUP BY customer
HAVING ROUND(SUM(1 / COALESCE(_sample_rate, 1))) >= $min_events
ORDER BY events DESC, customer
