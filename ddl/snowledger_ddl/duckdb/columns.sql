-- The columns of every table and view.
SELECT
    table_name,
    column_name,
    data_type
FROM information_schema.columns
WHERE table_catalog = current_database() AND table_schema = 'activities';
