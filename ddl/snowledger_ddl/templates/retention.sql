-- ---
-- answers = "Of the customers first seen in each day, week or month, how many came back in each one after it."
-- scope = "allowed"
-- row_limit = 5000
-- example = { bucket = "week", since = "56d" }
-- [params.bucket]
-- type = "enum"
-- values = ["day", "week", "month"]
-- default = "week"
-- description = "How wide a cohort is; weeks begin on Monday, all times are UTC."
-- [params.since]
-- type = "interval"
-- default = "56d"
-- min = "1d"
-- max = "730d"
-- description = "Only cohorts that began this long ago or later."
-- [params.activity]
-- type = "string"
-- default = ""
-- max_length = 128
-- description = "Only this activity counts as being there; empty means any."
-- ---
WITH seen AS (
    SELECT DISTINCT
        customer,
        CASE $bucket
            WHEN 'day' THEN DATE_TRUNC('day', ts)
            WHEN 'week' THEN DATE_TRUNC('week', ts)
            ELSE DATE_TRUNC('month', ts)
        END AS period
    FROM events
    WHERE
        LIST_CONTAINS($customers, customer)
        AND ts IS NOT NULL
        AND ($activity = '' OR activity = $activity)
),

first_seen AS (
    SELECT
        customer,
        MIN(period) AS cohort_start
    FROM seen
    GROUP BY customer
),

sizes AS (
    SELECT
        cohort_start,
        COUNT(*) AS cohort_size
    FROM first_seen
    GROUP BY cohort_start
),

later AS (
    SELECT
        first_seen.cohort_start,
        CASE $bucket
            WHEN 'day' THEN DATE_DIFF('day', first_seen.cohort_start, seen.period)
            WHEN 'week' THEN DATE_DIFF('week', first_seen.cohort_start, seen.period)
            ELSE DATE_DIFF('month', first_seen.cohort_start, seen.period)
        END AS periods_later,
        COUNT(*) AS customers
    FROM seen
    INNER JOIN first_seen ON seen.customer = first_seen.customer
    GROUP BY 1, 2
)

SELECT
    later.cohort_start,
    later.periods_later,
    later.customers,
    sizes.cohort_size,
    ROUND(later.customers / sizes.cohort_size, 4) AS retained_share
FROM later
INNER JOIN sizes ON later.cohort_start = sizes.cohort_start
WHERE later.cohort_start >= $now - INTERVAL ($since) SECOND
ORDER BY later.cohort_start, later.periods_later
