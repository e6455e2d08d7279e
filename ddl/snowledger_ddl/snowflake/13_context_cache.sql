-- What is known of each customer, as the tool get_context tells it, derived from EVENTS whenever it is read. So it is
-- as old as EVENTS, which as_of says. The local copy that get_context answers from is fresher.
--
-- Times are text in the form of an event's ts, and counts go by whole hours, as in that copy. Where times sort
-- downwards, NULLS LAST is needed: Snowflake would put them first.
CREATE OR REPLACE VIEW "${database}"."${schema}".CONTEXT_CACHE (
    customer COMMENT 'Whose context it is',
    context COMMENT
    'insights that hold, verified and newest first; activity_counts of a day and a week; recent_events, newest first',
    as_of COMMENT 'When the last batch that it knows of was loaded, UTC'
)
COPY GRANTS
AS
WITH logged AS (
    SELECT
        activity_id,
        ts,
        customer,
        activity,
        link,
        feature_json
    FROM "${database}"."${schema}".EVENTS
    WHERE customer <> 'snowledger' AND activity IS NOT NULL
),

moment AS (
    SELECT MAX(_loaded_at) AS as_of
    FROM "${database}"."${schema}".EVENTS
),

-- Of the atoms of a subject and metric that have begun, the last one counts, also when it has ended: an older one does
-- not come back. One that is yet to begin does not hide it.
latest AS (
    SELECT
        customer,
        subject,
        metric,
        value AS finding,
        provenance_query_hash,
        verified,
        recorded_at,
        valid_from,
        valid_to,
        atom_id
    FROM "${database}"."${schema}".INSIGHT_ATOMS
    WHERE
        NOT is_quarantined
        AND customer <> 'snowledger'
        AND (valid_from IS NULL OR valid_from <= SYSDATE())
    QUALIFY
        ROW_NUMBER() OVER (
            PARTITION BY customer, subject, metric
            ORDER BY recorded_at DESC NULLS LAST, atom_id DESC
        ) = 1
),

insights AS (
    SELECT
        customer,
        ARRAY_AGG(
            OBJECT_CONSTRUCT_KEEP_NULL(
                'subject', subject,
                'metric', metric,
                'value', finding,
                'query_hash', provenance_query_hash,
                'verified', verified,
                'recorded_at', TO_CHAR(recorded_at, 'YYYY-MM-DD"T"HH24:MI:SS.FF6"Z"'),
                'valid_from', TO_CHAR(valid_from, 'YYYY-MM-DD"T"HH24:MI:SS.FF6"Z"'),
                'valid_to', TO_CHAR(valid_to, 'YYYY-MM-DD"T"HH24:MI:SS.FF6"Z"'),
                'insight_id', atom_id
            )
        ) WITHIN GROUP (ORDER BY verified DESC, recorded_at DESC NULLS LAST, atom_id DESC) AS entries
    FROM latest
    WHERE valid_to IS NULL OR valid_to > SYSDATE()
    GROUP BY customer
),

counted AS (
    SELECT
        customer,
        activity,
        COUNT_IF(ts >= DATE_TRUNC('HOUR', DATEADD('HOUR', -24, SYSDATE()))) AS last_24_h,
        COUNT(*) AS last_7_d
    FROM logged
    WHERE ts >= DATE_TRUNC('HOUR', DATEADD('DAY', -7, SYSDATE()))
    GROUP BY customer, activity
),

activity_counts AS (
    SELECT
        customer,
        ARRAY_AGG(
            OBJECT_CONSTRUCT('activity', activity, 'last_24_h', last_24_h, 'last_7_d', last_7_d)
        ) WITHIN GROUP (ORDER BY last_7_d DESC, activity ASC) AS entries
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
        ARRAY_AGG(
            OBJECT_CONSTRUCT_KEEP_NULL(
                'ts', TO_CHAR(ts, 'YYYY-MM-DD"T"HH24:MI:SS.FF6"Z"'),
                'event_id', activity_id,
                'activity', activity,
                'link', link,
                'feature_json', feature_json
            )
        ) WITHIN GROUP (ORDER BY ts DESC, activity_id DESC) AS entries
    FROM newest
    GROUP BY customer
),

customers AS (
    SELECT DISTINCT customer FROM logged
)

SELECT
    customers.customer,
    CAST(
        OBJECT_CONSTRUCT(
            'insights', COALESCE(insights.entries, ARRAY_CONSTRUCT()),
            'activity_counts', COALESCE(activity_counts.entries, ARRAY_CONSTRUCT()),
            'recent_events', COALESCE(recent_events.entries, ARRAY_CONSTRUCT())
        ) AS VARIANT
    ) AS context,
    moment.as_of
FROM customers
CROSS JOIN moment
LEFT JOIN insights ON customers.customer = insights.customer
LEFT JOIN activity_counts ON customers.customer = activity_counts.customer
LEFT JOIN recent_events ON customers.customer = recent_events.customer;

GRANT SELECT ON VIEW "${database}"."${schema}".CONTEXT_CACHE TO ROLE "${reader_role}";

COMMENT ON VIEW "${database}"."${schema}".CONTEXT_CACHE IS
'The context of each customer as EVENTS tells it [{version}]';
