-- ---
-- answers = "Every insight that was recorded about a subject, newest first, also replaced, ended and quarantined ones."
-- row_limit = 1000
-- example = { subject = "product/pro", metric = "mrr_usd" }
-- [params.subject]
-- type = "string"
-- description = "The subject, exactly as it was recorded."
-- [params.metric]
-- type = "string"
-- default = ""
-- description = "Only this metric; empty means all."
-- ---
SELECT
    recorded_at,
    metric,
    value,
    verified,
    is_quarantined,
    valid_from,
    valid_to,
    provenance_query_hash AS query_hash,
    atom_id AS insight_id,
    _session_id AS session_id
FROM insight_atoms
WHERE
    customer = $customer
    AND subject = $subject
    AND ($metric = '' OR metric = $metric)
ORDER BY recorded_at DESC, insight_id DESC
