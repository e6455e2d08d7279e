-- ---
-- answers = "How long it takes from one activity to the next of another, such as from a question to its answer."
-- row_limit = 1
-- example = { from_activity = "cdesk.sql_executed", to_activity = "cdesk.sql_completed", within = "5m" }
-- [params.from_activity]
-- type = "string"
-- default = "cdesk.user_asked"
-- max_length = 128
-- description = "Where the time begins."
-- [params.to_activity]
-- type = "string"
-- default = "cdesk.claude_responded"
-- max_length = 128
-- description = "Where it ends: at the first of these after each beginning."
-- [params.per]
-- type = "enum"
-- values = ["session", "customer"]
-- default = "session"
-- description = "Whether the end must be in the same session or only of the same customer."
-- [params.within]
-- type = "interval"
-- default = "1d"
-- min = "1s"
-- max = "365d"
-- description = "An end later than this is none."
-- [params.since]
-- type = "interval"
-- default = "30d"
-- min = "1h"
-- max = "730d"
-- description = "How far back to look."
-- ---
WITH logged AS (
    SELECT
        CASE $per WHEN 'customer' THEN customer ELSE _session_id END AS actor,
        activity,
        activity_id,
        ts,
        CASE WHEN activity = $to_activity THEN ts END AS ended_at
    FROM events
    WHERE
        customer = $customer
        AND ts >= $now - INTERVAL ($since) SECOND
        AND activity IN ($from_activity, $to_activity)
),

-- Of events with one time, the beginning comes first.
followed AS (
    SELECT
        actor,
        activity,
        ts,
        MIN(ended_at) OVER (
            PARTITION BY actor
            ORDER BY ts, CASE WHEN activity = $from_activity THEN 0 ELSE 1 END, activity_id
            ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
        ) AS ended_at
    FROM logged
),

measured AS (
    SELECT CASE
        WHEN ended_at <= ts + INTERVAL ($within) SECOND THEN DATE_DIFF('millisecond', ts, ended_at) / 1000.0
    END AS seconds
    FROM followed
    WHERE activity = $from_activity AND actor IS NOT NULL
)

SELECT
    $from_activity AS from_activity,
    $to_activity AS to_activity,
    COUNT(*) AS begun,
    COUNT(seconds) AS ended,
    COUNT(*) - COUNT(seconds) AS without_end,
    MIN(seconds) AS min_seconds,
    MEDIAN(seconds) AS median_seconds,
    QUANTILE_CONT(seconds, 0.95) AS p95_seconds,
    MAX(seconds) AS max_seconds
FROM measured
