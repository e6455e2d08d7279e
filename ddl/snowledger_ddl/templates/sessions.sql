-- ---
-- answers = "The sessions, newest first: how long each was, and how many questions, tool calls, queries and errors it had."
-- row_limit = 500
-- example = { since = "7d", min_events = 2 }
-- [params.since]
-- type = "interval"
-- default = "7d"
-- min = "1h"
-- max = "730d"
-- description = "How far back to look."
-- [params.min_events]
-- type = "integer"
-- default = 1
-- min = 1
-- max = 1000000000
-- description = "Only sessions with at least so many events."
-- ---
SELECT
    _session_id AS session_id,
    MIN(ts) AS first_at,
    MAX(ts) AS last_at,
    DATE_DIFF('millisecond', MIN(ts), MAX(ts)) / 1000.0 AS seconds,
    -- An event that was sampled stands for others that were not kept.
    CAST(ROUND(SUM(1 / COALESCE(_sample_rate, 1))) AS BIGINT) AS events,
    COUNT(*) FILTER (WHERE activity = 'cdesk.user_asked') AS questions,
    CAST(
        ROUND(SUM(CASE WHEN activity = 'cdesk.tool_called' THEN 1 / COALESCE(_sample_rate, 1) ELSE 0 END)) AS BIGINT
    ) AS tool_calls,
    COUNT(*) FILTER (WHERE activity = 'cdesk.sql_executed') AS queries,
    COUNT(*) FILTER (WHERE activity = 'cdesk.insight_recorded') AS insights,
    COUNT(*) FILTER (WHERE activity = 'cdesk.error_encountered') AS errors
FROM events
WHERE
    customer = $customer
    AND ts >= $now - INTERVAL ($since) SECOND
    AND _session_id IS NOT NULL
GROUP BY _session_id
HAVING ROUND(SUM(1 / COALESCE(_sample_rate, 1))) >= $min_events
ORDER BY first_at DESC, session_id
