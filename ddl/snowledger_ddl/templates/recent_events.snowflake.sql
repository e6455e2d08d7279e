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
    AND ts >= TIMESTAMPADD(SECOND, -$since, $now)
    AND ($activity = '' OR activity = $activity)
    AND ($session_id = '' OR _session_id = $session_id)
    AND ($query_tag = '' OR _query_tag = $query_tag)
QUALIFY ROW_NUMBER() OVER (ORDER BY ts DESC, activity_id DESC) <= $limit
ORDER BY ts DESC, event_id DESC
