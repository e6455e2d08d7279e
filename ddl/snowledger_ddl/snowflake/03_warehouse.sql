-- A warehouse of its own, so that its cost is known and nobody waits for somebody else's query. A started warehouse is
-- billed for a minute at least; longer than a minute of idling only costs.
--
-- The time limit ends what the client's own limit (30 s for a query) did not. A batch of 250 MB loads well within it.
-- Settings apply when the warehouse is made: one that was resized since stays as it is.
CREATE WAREHOUSE IF NOT EXISTS "${warehouse}" WITH
WAREHOUSE_SIZE = XSMALL
AUTO_SUSPEND = 60
AUTO_RESUME = TRUE
INITIALLY_SUSPENDED = TRUE
STATEMENT_TIMEOUT_IN_SECONDS = 900
STATEMENT_QUEUED_TIMEOUT_IN_SECONDS = 300;

-- USAGE runs statements and resumes it; nobody but the owner resizes or drops it.
GRANT USAGE ON WAREHOUSE "${warehouse}" TO ROLE "${reader_role}";

COMMENT ON WAREHOUSE "${warehouse}" IS
'Loads, refreshes and queries the activity stream [{version}]';
