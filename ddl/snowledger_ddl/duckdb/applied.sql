-- What the database holds, by name and comment. A comment ends with the version of the file that made the object.
SELECT
    schema_name AS name,
    NULL AS comment
FROM information_schema.schemata
WHERE catalog_name = current_database() AND schema_name = 'activities'
UNION ALL
SELECT
    table_name,
    table_comment
FROM information_schema.tables
WHERE table_catalog = current_database() AND table_schema = 'activities';
