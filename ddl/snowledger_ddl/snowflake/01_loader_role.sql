-- Roles come first, for every later file grants on what it makes. Whoever applies this owns all of it; owning is not
-- needed to load or to read.
CREATE ROLE IF NOT EXISTS "${loader_role}";

ALTER ROLE "${loader_role}" SET
COMMENT = 'Loads events and runs the queries of the uploader [{version}]';
