-- ---
-- answers = "Which errors happened, where, how often and when last; the most frequent first."
-- row_limit = 500
-- example = { since = "7d", place = "sql" }
-- [params.since]
-- type = "interval"
-- default = "7d"
-- min = "1m"
-- max = "730d"
-- description = "How far back to look."
-- [params.place]
-- type = "string"
-- default = ""
-- max_length = 255
-- description = "Only errors that happened there (the feature where of cdesk.error_encountered); empty means all."
-- [params.containing]
-- type = "string"
-- default = ""
-- max_length = 200
-- description = "Only messages with this in them, in upper or lower case; empty means all."
-- ---
WITH errors AS (
    SELECT
        COALESCE(feature_json ->> '$.where', '(not said)') AS place,
        COALESCE(feature_json ->> '$.message', '(no message)') AS message,
        feature_json ->> '$.retryable' AS retryable,
        ts,
        _session_id
    FROM events
    WHERE
        customer = $customer
        AND activity = 'cdesk.error_encountered'
        AND ts >= $now - INTERVAL ($since) SECOND
)

SELECT
    place,
    message,
    COUNT(*) AS times,
    COUNT(*) FILTER (WHERE retryable = 'true') AS retryable_times,
    COUNT(DISTINCT _session_id) AS sessions,
    MIN(ts) AS first_at,
    MAX(ts) AS last_at
FROM errors
WHERE
    ($place = '' OR place = $place)
    AND ($containing = '' OR CONTAINS(LOWER(message), LOWER($containing)))
GROUP BY place, message
ORDER BY times DESC, last_at DESC, place, message
