-- ---
-- answers = "The results that were kept as files, newest first: of which query, how large, and where."
-- row_limit = 1000
-- example = { since = "90d", template = "activity_counts" }
-- [params.since]
-- type = "interval"
-- default = "30d"
-- min = "1h"
-- max = "730d"
-- description = "How far back to look."
-- [params.template]
-- type = "string"
-- default = ""
-- max_length = 64
-- description = "Only results of this template; empty means all."
-- [params.query_hash]
-- type = "string"
-- default = ""
-- max_length = 64
-- description = "Only results of the query with this hash; empty means all."
-- ---
SELECT
    created_at,
    artifact_id,
    ticket_id,
    template,
    query_hash,
    query_tag,
    format,
    rows AS result_rows,
    bytes AS result_bytes,
    path
FROM artifacts
WHERE
    customer = $customer
    AND created_at >= $now - INTERVAL ($since) SECOND
    AND ($template = '' OR template = $template)
    AND ($query_hash = '' OR query_hash = LOWER($query_hash))
ORDER BY created_at DESC, artifact_id
