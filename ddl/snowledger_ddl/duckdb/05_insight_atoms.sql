-- Insight atoms: what was concluded, from which query, and for how long it holds.
--
-- Validity is a date, or a date and time in UTC (with or without Z) or with an offset. The patterns are needed:
-- a cast to TIMESTAMP ignores offsets and zone names, one to TIMESTAMPTZ reads a time without zone as local.
CREATE OR REPLACE VIEW activities.insight_atoms AS
WITH parsed AS (
    SELECT
        activity_id,
        ts,
        customer,
        -- Not part of the transform, which cannot tell a null value (an atom's right) from a missing one.
        feature_json -> '$.value' AS value,
        json_transform(
            feature_json,
            '{
                "subject": "JSON",
                "metric": "JSON",
                "provenance_query_hash": "JSON",
                "verified": "JSON",
                "valid_from": "JSON",
                "valid_to": "JSON"
            }'
        ) AS f,
        _session_id
    FROM activities.events
    WHERE activity = 'cdesk.insight_recorded'
),

typed AS (
    SELECT
        activity_id,
        ts,
        customer,
        CASE WHEN f.subject LIKE '"%' THEN f.subject ->> '$' END AS subject,
        CASE WHEN f.metric LIKE '"%' THEN f.metric ->> '$' END AS metric,
        value,
        CASE WHEN f.provenance_query_hash LIKE '"%' THEN f.provenance_query_hash ->> '$' END
            AS provenance_query_hash,
        CAST(f.verified AS VARCHAR) IS NOT DISTINCT FROM 'true' AS verified,
        CASE
            WHEN regexp_full_match(f.valid_from, '"\d{4}-\d\d-\d\d([T ][\d:.]+Z?)?"')
                THEN TRY_CAST(f.valid_from ->> '$' AS TIMESTAMP)
            WHEN regexp_full_match(f.valid_from, '"\d{4}-\d\d-\d\d[T ][\d:.]+[+-]\d\d(:?\d\d)?"')
                THEN TRY_CAST(f.valid_from ->> '$' AS TIMESTAMPTZ) AT TIME ZONE 'UTC'
        END AS valid_from,
        CASE
            WHEN regexp_full_match(f.valid_to, '"\d{4}-\d\d-\d\d([T ][\d:.]+Z?)?"')
                THEN TRY_CAST(f.valid_to ->> '$' AS TIMESTAMP)
            WHEN regexp_full_match(f.valid_to, '"\d{4}-\d\d-\d\d[T ][\d:.]+[+-]\d\d(:?\d\d)?"')
                THEN TRY_CAST(f.valid_to ->> '$' AS TIMESTAMPTZ) AT TIME ZONE 'UTC'
        END AS valid_to,
        f.valid_from IS NOT NULL AS has_valid_from,
        f.valid_to IS NOT NULL AS has_valid_to,
        _session_id
    FROM parsed
)

SELECT
    activity_id AS atom_id,
    customer,
    subject,
    metric,
    value,
    provenance_query_hash,
    verified,
    valid_from,
    valid_to,
    ts AS recorded_at,
    COALESCE(subject, '') = ''
    OR COALESCE(metric, '') = ''
    OR COALESCE(provenance_query_hash, '') = ''
    OR value IS NULL
    OR (has_valid_from AND valid_from IS NULL)
    OR (has_valid_to AND valid_to IS NULL)
    OR COALESCE(valid_to <= valid_from, FALSE) AS is_quarantined,
    _session_id
FROM typed;

COMMENT ON COLUMN activities.insight_atoms.atom_id IS 'The activity_id of the cdesk.insight_recorded event';
COMMENT ON COLUMN activities.insight_atoms.customer IS 'Whose insight it is';
COMMENT ON COLUMN activities.insight_atoms.subject IS 'What the insight is about';
COMMENT ON COLUMN activities.insight_atoms.metric IS 'What was measured of the subject';
COMMENT ON COLUMN activities.insight_atoms.value IS 'What was found: any JSON value; SQL NULL only when missing';
COMMENT ON COLUMN activities.insight_atoms.provenance_query_hash IS 'Hash of the query that the insight rests on';
COMMENT ON COLUMN activities.insight_atoms.verified IS
'Whether that hash belonged to a query that this customer had run to the end';
COMMENT ON COLUMN activities.insight_atoms.valid_from IS 'From when it holds, UTC; null when not limited';
COMMENT ON COLUMN activities.insight_atoms.valid_to IS 'Until when it holds, UTC; null when open';
COMMENT ON COLUMN activities.insight_atoms.recorded_at IS 'When it was logged, UTC';
COMMENT ON COLUMN activities.insight_atoms.is_quarantined IS
'Not to be recalled: a part is missing or badly typed, or the validity is unreadable or ends before it begins';
COMMENT ON COLUMN activities.insight_atoms._session_id IS 'Session in which it was logged';
COMMENT ON VIEW activities.insight_atoms IS
'Insight atoms, the only authoritative source of recall [{version}]';
