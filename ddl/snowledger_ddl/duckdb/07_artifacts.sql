-- Artifacts: the results of queries that were kept as files, one for each query that ran to the end.
--
-- Counts are cast from their JSON text, where the string "5" keeps its quotes and so is no number; the type is asked for
-- too, because a cast alone would round 1.5.
CREATE OR REPLACE VIEW activities.artifacts AS
WITH parsed AS (
    SELECT
        activity_id,
        ts,
        customer,
        json_transform(
            feature_json,
            '{
                "artifact_id": "JSON",
                "ticket_id": "JSON",
                "template": "JSON",
                "query_hash": "JSON",
                "query_tag": "JSON",
                "format": "JSON",
                "rows": "JSON",
                "bytes": "JSON",
                "path": "JSON"
            }'
        ) AS f,
        _query_tag,
        _session_id
    FROM activities.events
    WHERE activity = 'cdesk.artifact_created'
)

SELECT
    -- An artifact that was logged without an id is still one.
    COALESCE(CASE WHEN f.artifact_id LIKE '"%' THEN f.artifact_id ->> '$' END, activity_id) AS artifact_id,
    customer,
    CASE WHEN f.ticket_id LIKE '"%' THEN f.ticket_id ->> '$' END AS ticket_id,
    CASE WHEN f.template LIKE '"%' THEN f.template ->> '$' END AS template,
    CASE WHEN f.query_hash LIKE '"%' THEN f.query_hash ->> '$' END AS query_hash,
    COALESCE(CASE WHEN f.query_tag LIKE '"%' THEN f.query_tag ->> '$' END, _query_tag) AS query_tag,
    CASE WHEN f.format LIKE '"%' THEN f.format ->> '$' END AS format,
    CASE
        WHEN json_type(f.rows) IN ('UBIGINT', 'BIGINT') THEN TRY_CAST(CAST(f.rows AS VARCHAR) AS BIGINT)
    END AS rows,
    CASE
        WHEN json_type(f.bytes) IN ('UBIGINT', 'BIGINT') THEN TRY_CAST(CAST(f.bytes AS VARCHAR) AS BIGINT)
    END AS bytes,
    CASE WHEN f.path LIKE '"%' THEN f.path ->> '$' END AS path,
    ts AS created_at,
    _session_id
FROM parsed;

COMMENT ON COLUMN activities.artifacts.artifact_id IS 'Id of the artifact; of the event when none was logged';
COMMENT ON COLUMN activities.artifacts.customer IS 'Whose artifact it is';
COMMENT ON COLUMN activities.artifacts.ticket_id IS 'Ticket of the query whose result it holds';
COMMENT ON COLUMN activities.artifacts.template IS 'Template of that query';
COMMENT ON COLUMN activities.artifacts.query_hash IS 'Hash of that query: template, text and parameters';
COMMENT ON COLUMN activities.artifacts.query_tag IS 'Tag under which it ran; of the event when none was logged';
COMMENT ON COLUMN activities.artifacts.format IS 'Format of the file, such as parquet';
COMMENT ON COLUMN activities.artifacts.rows IS 'How many rows the file holds';
COMMENT ON COLUMN activities.artifacts.bytes IS 'Size of the file';
COMMENT ON COLUMN activities.artifacts.path IS 'Where the file is, as it was logged';
COMMENT ON COLUMN activities.artifacts.created_at IS 'When it was logged, UTC';
COMMENT ON COLUMN activities.artifacts._session_id IS 'Session in which it was logged';
COMMENT ON VIEW activities.artifacts IS
'Results of queries that were kept as files [{version}]';
