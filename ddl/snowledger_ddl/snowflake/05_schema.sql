-- Managed access: only the schema's owner grants on what is in it.
CREATE SCHEMA IF NOT EXISTS "${database}"."${schema}" WITH MANAGED ACCESS;

-- Enough for the loader's temporary landing table as well, which needs no CREATE TABLE.
GRANT USAGE ON SCHEMA "${database}"."${schema}" TO ROLE "${reader_role}";

COMMENT ON SCHEMA "${database}"."${schema}" IS
'The activity stream and what is derived from it [{version}]';
