CREATE DATABASE IF NOT EXISTS "${database}";

GRANT USAGE ON DATABASE "${database}" TO ROLE "${reader_role}";

COMMENT ON DATABASE "${database}" IS
'Activity streams of MCP clients [{version}]';
