-- What there is, by name and comment. A comment ends with the version of the file that made the object. SHOW needs no
-- running warehouse, and a dynamic table is among the tables.
SHOW ROLES LIKE '${loader_role}';
SHOW ROLES LIKE '${reader_role}';
SHOW WAREHOUSES LIKE '${warehouse}';
SHOW DATABASES LIKE '${database}';
SHOW USERS LIKE '${loader_user}';
SHOW SCHEMAS IN DATABASE "${database}";
SHOW FILE FORMATS IN SCHEMA "${database}"."${schema}";
SHOW STAGES IN SCHEMA "${database}"."${schema}";
SHOW TABLES IN SCHEMA "${database}"."${schema}";
SHOW VIEWS IN SCHEMA "${database}"."${schema}";
