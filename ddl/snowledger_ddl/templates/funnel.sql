-- ---
-- answers = "How many sessions (or customers) that did a first activity went on to a second, third and fourth, in order."
-- scope = "allowed"
-- row_limit = 4
-- example = { step_1 = "cdesk.user_asked", step_2 = "cdesk.sql_executed", step_3 = "cdesk.insight_recorded", step_4 = "" }
-- [params.step_1]
-- type = "string"
-- default = "cdesk.user_asked"
-- max_length = 128
-- description = "The activity that enters the funnel; the first one in the time looked at counts."
-- [params.step_2]
-- type = "string"
-- default = "cdesk.sql_executed"
-- max_length = 128
-- description = "The activity that must follow it."
-- [params.step_3]
-- type = "string"
-- default = "cdesk.sql_completed"
-- max_length = 128
-- description = "The activity that must follow that; empty ends the funnel after two steps."
-- [params.step_4]
-- type = "string"
-- default = "cdesk.insight_recorded"
-- max_length = 128
-- description = "The last activity; empty ends the funnel after three steps."
-- [params.per]
-- type = "enum"
-- values = ["session", "customer"]
-- default = "session"
-- description = "Who goes through the funnel."
-- [params.within]
-- type = "interval"
-- default = "1d"
-- min = "1s"
-- max = "365d"
-- description = "Every step must be reached this long after the first."
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
        ts
    FROM events
    WHERE
        LIST_CONTAINS($customers, customer)
        AND ts >= $now - INTERVAL ($since) SECOND
        AND activity IN ($step_1, $step_2, $step_3, $step_4)
),

reached_1 AS (
    SELECT
        actor,
        MIN(ts) AS entered_at,
        MIN(ts) AS reached_at
    FROM logged
    WHERE activity = $step_1 AND actor IS NOT NULL
    GROUP BY actor
),

-- Two steps may have one time, for imported events often have whole seconds; an event is never two steps, though.
reached_2 AS (
    SELECT
        logged.actor,
        MIN(earlier.entered_at) AS entered_at,
        MIN(logged.ts) AS reached_at
    FROM logged
    INNER JOIN reached_1 AS earlier ON logged.actor = earlier.actor
    WHERE
        logged.activity = $step_2
        AND (logged.ts > earlier.reached_at OR (logged.ts = earlier.reached_at AND $step_2 <> $step_1))
        AND logged.ts <= earlier.entered_at + INTERVAL ($within) SECOND
    GROUP BY logged.actor
),

reached_3 AS (
    SELECT
        logged.actor,
        MIN(earlier.entered_at) AS entered_at,
        MIN(logged.ts) AS reached_at
    FROM logged
    INNER JOIN reached_2 AS earlier ON logged.actor = earlier.actor
    WHERE
        logged.activity = $step_3
        AND (logged.ts > earlier.reached_at OR (logged.ts = earlier.reached_at AND $step_3 <> $step_2))
        AND logged.ts <= earlier.entered_at + INTERVAL ($within) SECOND
    GROUP BY logged.actor
),

reached_4 AS (
    SELECT
        logged.actor,
        MIN(earlier.entered_at) AS entered_at,
        MIN(logged.ts) AS reached_at
    FROM logged
    INNER JOIN reached_3 AS earlier ON logged.actor = earlier.actor
    WHERE
        logged.activity = $step_4
        AND (logged.ts > earlier.reached_at OR (logged.ts = earlier.reached_at AND $step_4 <> $step_3))
        AND logged.ts <= earlier.entered_at + INTERVAL ($within) SECOND
    GROUP BY logged.actor
),

steps AS (
    SELECT
        1 AS step,
        $step_1 AS activity,
        COUNT(*) AS reached,
        MEDIAN(DATE_DIFF('millisecond', entered_at, reached_at)) / 1000.0 AS median_seconds
    FROM reached_1
    UNION ALL
    SELECT
        2 AS step,
        $step_2 AS activity,
        COUNT(*) AS reached,
        MEDIAN(DATE_DIFF('millisecond', entered_at, reached_at)) / 1000.0 AS median_seconds
    FROM reached_2
    UNION ALL
    SELECT
        3 AS step,
        $step_3 AS activity,
        COUNT(*) AS reached,
        MEDIAN(DATE_DIFF('millisecond', entered_at, reached_at)) / 1000.0 AS median_seconds
    FROM reached_3
    UNION ALL
    SELECT
        4 AS step,
        $step_4 AS activity,
        COUNT(*) AS reached,
        MEDIAN(DATE_DIFF('millisecond', entered_at, reached_at)) / 1000.0 AS median_seconds
    FROM reached_4
)

SELECT
    step,
    activity,
    reached,
    ROUND(reached / NULLIF(FIRST_VALUE(reached) OVER (ORDER BY step), 0), 4) AS share_of_first,
    ROUND(reached / NULLIF(LAG(reached) OVER (ORDER BY step), 0), 4) AS share_of_previous,
    median_seconds AS median_seconds_from_first
FROM steps
WHERE step <= 2 OR (step = 3 AND $step_3 <> '') OR (step = 4 AND $step_3 <> '' AND $step_4 <> '')
ORDER BY step
