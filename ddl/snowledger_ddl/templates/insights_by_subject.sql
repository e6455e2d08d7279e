-- ---
-- answers = "The insights that hold now, one for each subject and metric, with the query each rests on."
-- row_limit = 1000
-- example = { subject_prefix = "product/", verified_only = false }
-- [params.subject_prefix]
-- type = "string"
-- default = ""
-- description = "Only subjects that begin like this, such as customer/; empty means all."
-- [params.metric]
-- type = "string"
-- default = ""
-- description = "Only this metric; empty means all."
-- [params.verified_only]
-- type = "boolean"
-- default = false
-- description = "Only insights that rest on a query which ran to the end."
-- ---
-- Of those of a subject and metric that have begun, the last one counts, also when it has ended: as in get_context.
WITH latest AS (
    SELECT
        subject,
        metric,
        value,
        verified,
        recorded_at,
        valid_from,
        valid_to,
        provenance_query_hash AS query_hash,
        atom_id AS insight_id,
        ROW_NUMBER() OVER (PARTITION BY subject, metric ORDER BY recorded_at DESC, atom_id DESC) AS place
    FROM insight_atoms
    WHERE
        customer = $customer
        AND NOT is_quarantined
        AND (valid_from IS NULL OR valid_from <= $now)
        AND STARTS_WITH(subject, $subject_prefix)
        AND ($metric = '' OR metric = $metric)
)

SELECT
    subject,
    metric,
    value,
    verified,
    recorded_at,
    valid_from,
    valid_to,
    query_hash,
    insight_id
FROM latest
WHERE
    place = 1
    AND (valid_to IS NULL OR valid_to > $now)
    AND (verified OR NOT $verified_only)
ORDER BY subject, metric
