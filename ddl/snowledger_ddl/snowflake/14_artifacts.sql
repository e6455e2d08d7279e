-- Artifacts: the results of queries that were kept as files, one for each query that ran to the end.
--
-- "ROWS" is quoted, for the word is reserved; in upper case it is the same name as on DuckDB. A whole number beyond 64
-- bits is a count here, for NUMBER holds it.
CREATE OR REPLACE VIEW "${database}"."${schema}".ARTIFACTS (
    artifact_id COMMENT 'Id of the artifact; of the event when none was logged',
    customer COMMENT 'Whose artifact it is',
    ticket_id COMMENT 'Ticket of the query whose result it holds',
    template COMMENT 'Template of that query',
    query_hash COMMENT 'Hash of that query: template, text and parameters',
    query_tag COMMENT 'Tag under which it ran; of the event when none was logged',
    format COMMENT 'Format of the file, such as parquet',
    "ROWS" COMMENT 'How many rows the file holds',
    bytes COMMENT 'Size of the file',
    path COMMENT 'Where the file is, as it was logged',
    created_at COMMENT 'When it was logged, UTC',
    _session_id COMMENT 'Session in which it was logged'
)
COPY GRANTS
AS
SELECT
    -- An artifact that was logged without an id is still one.
    COALESCE(AS_VARCHAR(feature_json:artifact_id), activity_id) AS artifact_id,
    customer,
    AS_VARCHAR(feature_json:ticket_id) AS ticket_id,
    AS_VARCHAR(feature_json:template) AS template,
    AS_VARCHAR(feature_json:query_hash) AS query_hash,
    COALESCE(AS_VARCHAR(feature_json:query_tag), _query_tag) AS query_tag,
    AS_VARCHAR(feature_json:format) AS format,
    AS_INTEGER(feature_json:"rows") AS "ROWS",
    AS_INTEGER(feature_json:bytes) AS bytes,
    AS_VARCHAR(feature_json:path) AS path,
    ts AS created_at,
    _session_id
FROM "${database}"."${schema}".EVENTS
WHERE activity = 'cdesk.artifact_created';

GRANT SELECT ON VIEW "${database}"."${schema}".ARTIFACTS TO ROLE "${reader_role}";

COMMENT ON VIEW "${database}"."${schema}".ARTIFACTS IS
'Results of queries that were kept as files [{version}]';
