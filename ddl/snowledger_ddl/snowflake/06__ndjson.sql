-- For people who look into the stage or load its files by hand. The uploader says the same in each COPY of its own: an
-- altered format could make dead letters of good events. One event on each line, as the queue holds it, in a gzip file.
-- A repeated key is accepted (the last one counts), for the uploader has verified every line; a file that is not UTF-8
-- or not JSON fails as a whole.
CREATE FILE FORMAT IF NOT EXISTS "${database}"."${schema}"._NDJSON
    TYPE = JSON
    COMPRESSION = GZIP
    ALLOW_DUPLICATE = TRUE
    STRIP_OUTER_ARRAY = FALSE
    STRIP_NULL_VALUES = FALSE
    IGNORE_UTF8_ERRORS = FALSE;

GRANT USAGE ON FILE FORMAT "${database}"."${schema}"._NDJSON TO ROLE "${loader_role}";

COMMENT ON FILE FORMAT "${database}"."${schema}"._NDJSON IS
'Lines of JSON in gzip, for your own SELECT and COPY of files in _BATCHES; the uploader does not use it [{version}]';
