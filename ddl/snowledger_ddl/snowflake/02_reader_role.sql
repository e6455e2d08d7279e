-- Reads the contract's views. The loader does, too: it runs queries for others.
CREATE ROLE IF NOT EXISTS "${reader_role}";

GRANT ROLE "${reader_role}" TO ROLE "${loader_role}";

ALTER ROLE "${reader_role}" SET
COMMENT = 'Reads events and what is derived from them, but not the landing table [{version}]';
