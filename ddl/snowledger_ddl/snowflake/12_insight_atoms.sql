-- Insight atoms: what was concluded, from which query, and for how long it holds. From EVENTS, not EVENTS_LIVE, which
-- would read the whole landing table; what was logged a second ago get_context knows without the warehouse.
--
-- Validity is a date, or a date and time in UTC (with or without Z) or with an offset. The forms are matched first and
-- written as one that AUTO knows: T between date and time, a colon in the offset. Digits are spelt [0-9], for a
-- backslash would have to be doubled.
CREATE OR REPLACE VIEW "${database}"."${schema}".INSIGHT_ATOMS (
    atom_id COMMENT 'The activity_id of the cdesk.insight_recorded event',
    customer COMMENT 'Whose insight it is',
    subject COMMENT 'What the insight is about',
    metric COMMENT 'What was measured of the subject',
    value COMMENT 'What was found: any JSON value; SQL NULL only when missing',
    provenance_query_hash COMMENT 'Hash of the query that the insight rests on',
    verified COMMENT 'Whether that hash belonged to a query that this customer had run to the end',
    valid_from COMMENT 'From when it holds, UTC; null when not limited',
    valid_to COMMENT 'Until when it holds, UTC; null when open',
    recorded_at COMMENT 'When it was logged, UTC',
    is_quarantined COMMENT
    'Not to be recalled: a part is missing or badly typed, or the validity is unreadable or ends before it begins',
    _session_id COMMENT 'Session in which it was logged'
)
COPY GRANTS
AS
WITH parsed AS (
    SELECT
        activity_id,
        ts,
        customer,
        AS_VARCHAR(feature_json:subject) AS subject,
        AS_VARCHAR(feature_json:metric) AS metric,
        feature_json:value AS value,
        AS_VARCHAR(feature_json:provenance_query_hash) AS provenance_query_hash,
        COALESCE(AS_BOOLEAN(feature_json:verified), FALSE) AS verified,
        REPLACE(AS_VARCHAR(feature_json:valid_from), ' ', 'T') AS from_text,
        REPLACE(AS_VARCHAR(feature_json:valid_to), ' ', 'T') AS to_text,
        -- A null is JSON's own and stands for no limit.
        COALESCE(NOT IS_NULL_VALUE(feature_json:valid_from), FALSE) AS has_valid_from,
        COALESCE(NOT IS_NULL_VALUE(feature_json:valid_to), FALSE) AS has_valid_to,
        _session_id
    FROM "${database}"."${schema}".EVENTS
    WHERE activity = 'cdesk.insight_recorded'
),

spelt AS (
    SELECT
        activity_id,
        ts,
        customer,
        subject,
        metric,
        value,
        provenance_query_hash,
        verified,
        CASE
            WHEN from_text LIKE '%T%' AND REGEXP_LIKE(from_text, '.*[+-][0-9][0-9]') THEN from_text || ':00'
            WHEN REGEXP_LIKE(from_text, '.*[+-][0-9]{4}')
                THEN LEFT(from_text, LENGTH(from_text) - 2) || ':' || RIGHT(from_text, 2)
            ELSE from_text
        END AS from_text,
        CASE
            WHEN to_text LIKE '%T%' AND REGEXP_LIKE(to_text, '.*[+-][0-9][0-9]') THEN to_text || ':00'
            WHEN REGEXP_LIKE(to_text, '.*[+-][0-9]{4}')
                THEN LEFT(to_text, LENGTH(to_text) - 2) || ':' || RIGHT(to_text, 2)
            ELSE to_text
        END AS to_text,
        has_valid_from,
        has_valid_to,
        _session_id
    FROM parsed
),

typed AS (
    SELECT
        activity_id,
        ts,
        customer,
        subject,
        metric,
        value,
        provenance_query_hash,
        verified,
        CASE
            WHEN REGEXP_LIKE(from_text, '[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]+Z?)?')
                THEN TRY_TO_TIMESTAMP_NTZ(RTRIM(from_text, 'Z'), 'AUTO')
            WHEN REGEXP_LIKE(from_text, '[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+[+-][0-9]{2}:[0-9]{2}')
                THEN CAST(CONVERT_TIMEZONE('UTC', TRY_TO_TIMESTAMP_TZ(from_text, 'AUTO')) AS TIMESTAMP_NTZ)
        END AS valid_from,
        CASE
            WHEN REGEXP_LIKE(to_text, '[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]+Z?)?')
                THEN TRY_TO_TIMESTAMP_NTZ(RTRIM(to_text, 'Z'), 'AUTO')
            WHEN REGEXP_LIKE(to_text, '[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+[+-][0-9]{2}:[0-9]{2}')
                THEN CAST(CONVERT_TIMEZONE('UTC', TRY_TO_TIMESTAMP_TZ(to_text, 'AUTO')) AS TIMESTAMP_NTZ)
        END AS valid_to,
        has_valid_from,
        has_valid_to,
        _session_id
    FROM spelt
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

GRANT SELECT ON VIEW "${database}"."${schema}".INSIGHT_ATOMS TO ROLE "${reader_role}";

COMMENT ON VIEW "${database}"."${schema}".INSIGHT_ATOMS IS
'Insight atoms, the only authoritative source of recall [{version}]';
