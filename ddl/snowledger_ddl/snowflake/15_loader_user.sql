-- Only when a user is named. It logs in with a key, a token or a workload identity, which is set by hand. Its
-- statements have a time limit and a tag also where a client sets none.
CREATE USER IF NOT EXISTS "${loader_user}"
    TYPE = SERVICE
    DEFAULT_ROLE = "${loader_role}"
    DEFAULT_WAREHOUSE = "${warehouse}"
    DEFAULT_NAMESPACE = "${database}"."${schema}"
    DEFAULT_SECONDARY_ROLES = ();

ALTER USER "${loader_user}" SET STATEMENT_TIMEOUT_IN_SECONDS = 900;

ALTER USER "${loader_user}" SET QUERY_TAG = 'cdesk_00000000';

GRANT ROLE "${loader_role}" TO USER "${loader_user}";

COMMENT ON USER "${loader_user}" IS
'The uploader of snowledger [{version}]';
