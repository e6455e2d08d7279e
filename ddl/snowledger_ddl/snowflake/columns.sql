-- The columns of every table and view: table_name, column_name, data_type.
SHOW COLUMNS IN SCHEMA "${database}"."${schema}";
