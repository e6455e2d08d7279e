-- What is known of each customer now, as the tool get_context tells it. Derived from the stream whenever it is read, so
-- it is never behind; the local copy that get_context answers from is compared with it in the tests.
--
-- Times are text in the form of an event's ts, and counts go by whole hours, as in that copy.
CREATE OR REPLACE VIEW activities.context_cache AS
WITH logged AS (
    SELECT
        activity_id,
        ts,
        customer,
        activity,
        link,
        feature_json
    FROM activities.events
    WHERE customer <> 'snowledger' AND activity IS NOT NULL
),

moment AS (
    SELECT
        NOW() AT TIME ZONE 'UTC' AS now,
        -- From the statistics of the table, not from its rows.
        (SELECT MAX(_loaded_at) FROM activities.raw_events) AS as_of
),

-- Of the atoms of a subject and metric that have begun, the last one counts, also when it has ended: an older one does
-- not come back. One that is yet to begin does not hide it.
latest AS (
    SELECT
        customer,
        subject,
        metric,
        value,
        provenance_query_hash,
        verified,
        recorded_at,
        valid_from,
        valid_to,
        atom_id
    FROM activities.insight_atoms
    CROSS JOIN moment
    WHERE
        NOT is_quarantined
        AND customer <> 'snowledger'
        AND (valid_from IS NULL OR valid_from <= now)
    QUALIFY ROW_NUMBER() OVER (PARTITION BY customer, subject, metric ORDER BY recorded_at DESC, atom_id DESC) = 1
),

insights AS (
    SELECT
        customer,
        LIST(
            {
                'subject': subject,
                'metric': metric,
                'value': value,
                'query_hash': provenance_query_hash,
                'verified': verified,
                'recorded_at': STRFTIME(recorded_at, '%Y-%m-%dT%H:%M:%S.%fZ'),
                'valid_from': STRFTIME(valid_from, '%Y-%m-%dT%H:%M:%S.%fZ'),
                'valid_to': STRFTIME(valid_to, '%Y-%m-%dT%H:%M:%S.%fZ'),
                'insight_id': atom_id
            }
            ORDER BY verified DESC, recorded_at DESC, atom_id DESC
        ) AS entries
    FROM latest
    CROSS JOIN moment
    WHERE valid_to IS NULL OR valid_to > now
    GROUP BY customer
),

counted AS (
    SELECT
        customer,
        activity,
        COUNT(*) FILTER (WHERE ts >= DATE_TRUNC('hour', now - INTERVAL 24 HOURS)) AS last_24_h,
        COUNT(*) AS last_7_d
    FROM logged
    CROSS JOIN moment
    WHERE ts >= DATE_TRUNC('hour', now - INTERVAL 7 DAYS)
    GROUP BY customer, activity
),

activity_counts AS (
    SELECT
        customer,
        LIST(
            {'activity': activity, 'last_24_h': last_24_h, 'last_7_d': last_7_d}
            ORDER BY last_7_d DESC, activity
        ) AS entries
    FROM counted
    GROUP BY customer
),

newest AS (
    SELECT
        customer,
        activity_id,
        ts,
        activity,
        link,
        feature_json
    FROM logged
    WHERE activity <> 'cdesk.insight_recorded' AND ts IS NOT NULL AND feature_json IS NOT NULL
    QUALIFY ROW_NUMBER() OVER (PARTITION BY customer ORDER BY ts DESC, activity_id DESC) <= 10
),

recent_events AS (
    SELECT
        customer,
        LIST(
            {
                'ts': STRFTIME(ts, '%Y-%m-%dT%H:%M:%S.%fZ'),
                'event_id': activity_id,
                'activity': activity,
                'link': link,
                'feature_json': feature_json
            }
            ORDER BY ts DESC, activity_id DESC
        ) AS entries
    FROM newest
    GROUP BY customer
),

customers AS (
    SELECT DISTINCT customer FROM logged
)

SELECT
    customers.customer,
    TO_JSON(
        {
            'insights': COALESCE(insights.entries, []),
            'activity_counts': COALESCE(activity_counts.entries, []),
            'recent_events': COALESCE(recent_events.entries, [])
        }
    ) AS context,
    moment.as_of
FROM customers
CROSS JOIN moment
LEFT JOIN insights ON customers.customer = insights.customer
LEFT JOIN activity_counts ON customers.customer = activity_counts.customer
LEFT JOIN recent_events ON customers.customer = recent_events.customer;

COMMENT ON COLUMN activities.context_cache.customer IS 'Whose context it is';
COMMENT ON COLUMN activities.context_cache.context IS
'insights that hold now, verified and newest first; activity_counts of a day and a week; recent_events, newest first';
COMMENT ON COLUMN activities.context_cache.as_of IS 'When the last batch was loaded, UTC';
COMMENT ON VIEW activities.context_cache IS
'The context of each customer as it is now, derived from events [{version}]';
