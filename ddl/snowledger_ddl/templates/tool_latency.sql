-- ---
-- answers = "How long each tool takes, how often it is called and how often it fails; the slowest first."
-- row_limit = 500
-- example = { since = "24h", tool = "search" }
-- [params.since]
-- type = "interval"
-- default = "7d"
-- min = "1m"
-- max = "730d"
-- description = "How far back to look."
-- [params.tool]
-- type = "string"
-- default = ""
-- max_length = 255
-- description = "Only this tool; empty means all."
-- ---
WITH calls AS (
    SELECT
        COALESCE(feature_json ->> '$.tool', '(not named)') AS tool,
        (feature_json ->> '$.ok') = 'false' AS failed,
        TRY_CAST(feature_json ->> '$.latency_ms' AS DOUBLE) AS latency_ms,
        -- A call that was sampled stands for others that were not kept; those that failed are all kept.
        1 / COALESCE(_sample_rate, 1) AS weight
    FROM events
    WHERE
        customer = $customer
        AND activity = 'cdesk.tool_called'
        AND ts >= $now - INTERVAL ($since) SECOND
),

-- What is no time is left out of the figures and counted as a call.
measured AS (
    SELECT
        tool,
        failed,
        weight,
        CASE WHEN latency_ms BETWEEN 0 AND 1e12 THEN latency_ms END AS latency_ms
    FROM calls
    WHERE $tool = '' OR tool = $tool
)

SELECT
    tool,
    CAST(ROUND(SUM(weight)) AS BIGINT) AS calls,
    COUNT(*) FILTER (WHERE failed) AS failed,
    ROUND(COUNT(*) FILTER (WHERE failed) / SUM(weight), 4) AS failed_share,
    MEDIAN(latency_ms) AS median_ms,
    QUANTILE_CONT(latency_ms, 0.95) AS p95_ms,
    MAX(latency_ms) AS max_ms
FROM measured
GROUP BY tool
ORDER BY p95_ms DESC NULLS LAST, tool
