-- A file is here from its PUT until its batch is confirmed.
CREATE STAGE IF NOT EXISTS "${database}"."${schema}"._BATCHES;

-- WRITE cannot be granted without READ.
GRANT READ ON STAGE "${database}"."${schema}"._BATCHES TO ROLE "${loader_role}";

GRANT WRITE ON STAGE "${database}"."${schema}"._BATCHES TO ROLE "${loader_role}";

COMMENT ON STAGE "${database}"."${schema}"._BATCHES IS
'Batches on their way into RAW_EVENTS [{version}]';
