-- ---
-- answers = "The newest events with their features, newest first; all, or of one activity, session or query tag."
-- row_limit = 1000
-- example = { activity = "cdesk.error_encountered", since = "7d", limit = 20 }
-- [params.since]
-- type = "interval"
-- default = "24h"
-- min = "1m"
-- max = "730d"
-- description = "How far back to look."
-- [params.activity]
-- type = "string"
-- default = ""
-- max_length = 128
-- description = "Only this activity, such as cdesk.tool_called; empty means all."
-- [params.session_id]
-- type = "string"
-- default = ""
-- max_length = 255
-- description = "Only what was logged in this session; empty means all."
-- [params.query_tag]
-- type = "string"
-- default = ""
-- max_length = 64
-- description = "Only what was logged under this tag (cdesk_ and 8 hex digits); empty means all."
-- [params.limit]
-- type = "integer"
-- default = 50
-- min = 1
-- max = 1000
-- description = "How many events at most."
-- ---
SELECT
    ts,
    activity,
    activity_id AS event_id,
    feature_json AS features,
    link,
    revenue_impact,
    _session_id AS session_id,
    _query_tag AS query_tag
FROM events
WHERE
    customer = $customer
    AND ts >= $now - INTERVAL ($since) SECOND
    AND ($activity = '' OR activity = $activity)
    AND ($session_id = '' OR _session_id = $session_id)
    AND ($query_tag = '' OR _query_tag = $query_tag)
ORDER BY ts DESC, event_id DESC
LIMIT $limit
