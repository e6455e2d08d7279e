"""The check of templates: exactly one SELECT, over what may be read, that both warehouses understand."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.ddl.template_samples import loaded, problems, write

from snowledger_ddl import TemplateError, check_templates, executable, load_templates

ALLOWED = [
    "SELECT * FROM events WHERE customer = $customer",
    "FROM events WHERE customer = $customer",
    'SELECT * FROM "events" AS e WHERE e.customer = $customer;',
    "SELECT * FROM Events WHERE customer = $customer -- ; DROP TABLE x",
    "WITH a AS (SELECT * FROM events WHERE $customer = ''), b AS (SELECT * FROM a) SELECT * FROM a JOIN b USING (ts)",
    "WITH events AS (SELECT * FROM events WHERE customer = $customer) SELECT * FROM events",
    "SELECT 1 AS n FROM events UNION ALL SELECT 2 FROM insight_atoms WHERE customer = $customer ORDER BY 1",
    "SELECT $customer, ''",
    "SELECT * FROM events, artifacts, context_cache WHERE events.customer = $customer",
    "SELECT (SELECT MAX(ts) FROM events WHERE customer = $customer)",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM events WHERE customer = $customer)",
    "SELECT * FROM (VALUES (1), (2)) AS v(n) JOIN events ON TRUE WHERE customer = $customer",
    "SELECT n FROM UNNEST([1, 2]) AS u(n), events WHERE customer = $customer",
    "SELECT 'read_csv(''x''); $$' FROM events WHERE customer = $customer",
    "SELECT ROW_NUMBER() OVER (ORDER BY ts) AS n FROM events WHERE customer = $customer QUALIFY n < 3 LIMIT 5",
]


@pytest.mark.parametrize("body", ALLOWED)
def test_a_select_over_the_contract_passes(tmp_path: Path, body: str) -> None:
    assert problems(loaded(tmp_path, body)) == []


REFUSED = [
    ("SELECT $customer; SELECT 1", "here are 2 statements"),
    ("SELECT $customer; DELETE FROM activities.raw_events", "here are 2 statements"),
    ("DELETE FROM activities.raw_events WHERE customer = $customer", "exactly one SELECT"),
    ("INSERT INTO t SELECT $customer", "exactly one SELECT"),
    ("CREATE TABLE t AS SELECT $customer", "exactly one SELECT"),
    ("COPY (SELECT $customer) TO 'x.csv'", "exactly one SELECT"),
    ("ATTACH 'x.db' AS x -- \nSELECT $customer", "not duckdb SQL"),
    ("PIVOT events ON activity USING count($customer)", "exactly one SELECT"),
    ("VALUES ($customer)", "exactly one SELECT"),
    ("(SELECT $customer)", "exactly one SELECT"),
    ("EXPLAIN SELECT $customer", "exactly one SELECT"),
    ("SET x = $customer", "exactly one SELECT"),
    ("SELECT FROM WHERE $customer", "not duckdb SQL"),
    ("SELECT 'unclosed, $customer", None),
    ("SELECT (((($customer", "not duckdb SQL"),
    ("WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d WHERE $customer", None),
    ("WITH d AS (INSERT INTO t VALUES (1)) SELECT * FROM events WHERE $customer", "must be a SELECT"),
    ("SELECT * INTO t FROM events WHERE $customer", "only reads"),
    ("SELECT * FROM events WHERE $customer FOR UPDATE", "only reads"),
    ("SELECT * FROM raw_events WHERE $customer", "raw_events may not be read; may be read: artifacts, context_cache"),
    ("SELECT * FROM activities.raw_events WHERE $customer", "activities.raw_events may not be read"),
    ("SELECT * FROM activities.events WHERE $customer", "activities.events may not be read"),
    ("SELECT * FROM x.activities.events WHERE $customer", "x.activities.events may not be read"),
    ("SELECT * FROM information_schema.tables WHERE $customer", "information_schema.tables may not be read"),
    ("SELECT * FROM sqlite_master WHERE $customer", "sqlite_master may not be read"),
    ("SELECT * FROM '/etc/passwd' WHERE $customer", "/etc/passwd may not be read"),
    ("SELECT * FROM 'x.parquet' WHERE $customer", "x.parquet may not be read"),
    ('SELECT * FROM "x.csv" WHERE $customer', "x.csv may not be read"),
    ("SELECT * FROM read_csv('x') WHERE $customer", "not allowed"),
    ("SELECT * FROM read_text('x') WHERE $customer", "table functions are not allowed"),
    ("SELECT * FROM RANGE(1000000000000) WHERE $customer", "table functions are not allowed"),
    ("SELECT 'HOME'.getenv() FROM events WHERE $customer", "functions that reach beyond"),
    ("SELECT main.getenv('HOME') FROM events WHERE $customer", "functions that reach beyond"),
    ("SELECT crm.to_json(1) FROM events WHERE $customer", "functions of a schema are not allowed"),
    ("SELECT a.crm.to_json(1).b FROM events WHERE $customer", "functions of a schema are not allowed"),
    ("SELECT activity.to_json() FROM events WHERE $customer", "functions of a schema are not allowed"),
    ("SELECT crm.histogram(1) FILTER (WHERE TRUE) FROM events WHERE $customer", "functions of a schema"),
    ("SELECT crm.histogram(1) OVER () FROM events WHERE $customer", "functions of a schema"),
    ("SELECT crm.histogram(1) IGNORE NULLS FROM events WHERE $customer", "functions of a schema"),
    ("SELECT {'user': crm.lower(1)}.user FROM events WHERE $customer", "functions of a schema"),
    ("SELECT seq.nextval FROM events WHERE $customer", "sequences are not allowed"),
    ('SELECT seq."NextVal" FROM events WHERE $customer', "sequences are not allowed"),
    ("SELECT * FROM events AS e, e.feature_json WHERE $customer", "e.feature_json may not be read"),
    ("SELECT * FROM glob('*') WHERE $customer", "table functions are not allowed"),
    ("SELECT * FROM duckdb_settings() WHERE $customer", "table functions are not allowed"),
    ("SELECT * FROM pragma_table_info('x') WHERE $customer", "table functions are not allowed"),
    ("SELECT * FROM query('SELECT 1') WHERE $customer", "table functions are not allowed"),
    ("SELECT * FROM query_table('activities.raw_events') WHERE $customer", "table functions are not allowed"),
    ("SELECT * FROM IDENTIFIER('x') WHERE $customer", "table functions are not allowed"),
    ("SELECT * FROM $customer", "$customer is no value there"),
    ("SELECT * FROM (DESCRIBE events) WHERE $customer", "must be a SELECT"),
    ("SELECT * FROM (SUMMARIZE events) WHERE $customer", "must be a SELECT"),
    ("SELECT * FROM (SHOW TABLES) WHERE $customer", "SHOW may not be read"),
    ("SELECT * FROM (PIVOT events ON activity) WHERE $customer", None),
    ("SELECT * FROM events TABLESAMPLE 10% WHERE $customer", "read it plainly"),
    ("SELECT * FROM events AT (VERSION => 1) WHERE $customer", "read it plainly"),
    ("SELECT activities.events.ts FROM events WHERE $customer", "alias alone"),
    ("SELECT getenv('HOME') FROM events WHERE $customer", "getenv: functions that reach beyond"),
    ("SELECT current_setting('x') FROM events WHERE $customer", "functions that reach beyond"),
    ("SELECT nextval('s') FROM events WHERE $customer", "functions that reach beyond"),
    ("SELECT now() FROM events WHERE $customer", "now"),
    ("SELECT CURRENT_TIMESTAMP FROM events WHERE $customer", "the time is $now"),
    ("SELECT CURRENT_USER FROM events WHERE $customer", "the time is $now"),
    ("SELECT json_group_array(ts) FROM events WHERE $customer", "json_group_array: cannot be translated for Snowflake"),
    ("SELECT ? FROM events WHERE $customer", "written as $name"),
    ("SELECT E'\\'$customer' FROM events", "$customer is no value there"),
    ("SELECT 1 AS $customer FROM events", "$customer is no value there"),
    ("SELECT $customer, events.$customer FROM events", None),
    ("SELECT __bound__x FROM events WHERE $customer", None),
    ("SELECT * FROM a WHERE $customer IN (WITH a AS (SELECT 1) SELECT * FROM a)", "a may not be read"),
    ("WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a WHERE $customer", "b may not be read"),
    ("WITH a AS (SELECT * FROM a) SELECT * FROM a WHERE $customer", "a may not be read"),
    ("WITH a AS (SELECT 1), A AS (SELECT 2) SELECT * FROM a WHERE $customer", "A is defined twice"),
    ("WITH RECURSIVE a AS (SELECT 1 UNION SELECT * FROM a) FROM a WHERE $customer", "RECURSIVE is not allowed"),
    ("SELECT * FROM (WITH RECURSIVE a AS (SELECT 1) FROM a) WHERE $customer", "RECURSIVE is not allowed"),
    ('WITH "a b" AS (SELECT 1) SELECT * FROM "a b" WHERE $customer', "a b is no plain name"),
    ('WITH "x.csv" AS (SELECT 1) SELECT * FROM "X.csv" WHERE $customer', "x.csv is no plain name"),
    ('WITH "boo\u212a" AS (SELECT 1) SELECT * FROM book WHERE $customer', "boo\u212a is no plain name"),
    ('SELECT * FROM events AS "x.csv" WHERE $customer', "x.csv is no plain name"),
    ('SELECT * FROM (SELECT 1) AS "é" WHERE $customer', "é is no plain name"),
    ("SELECT user FROM events WHERE $customer", "user: what the clock or the session says is not allowed"),
    ('SELECT "Session_User" FROM events WHERE $customer', "what the clock or the session says is not allowed"),
]


@pytest.mark.parametrize(("body", "reason"), REFUSED)
def test_anything_else_is_refused_with_file_and_line(tmp_path: Path, body: str, reason: str | None) -> None:
    template = loaded(tmp_path, body)
    found = problems(template)
    assert found
    assert {problem.file for problem in found} == {template.source}
    assert all(problem.line >= template.text_line for problem in found)
    assert reason is None or any(reason in problem.reason for problem in found), found
    with pytest.raises(TemplateError):
        executable(template)


def test_a_problem_names_the_line_in_the_file(tmp_path: Path) -> None:
    body = (
        "SELECT\n  a\nFROM events\nJOIN secrets\n  USING (x)\nWHERE customer = $customer\n  AND getenv(\n 'HOME') = ''"
    )
    template = loaded(tmp_path, "\n\n" + body)
    lines = Path(template.source).read_text(encoding="utf-8").splitlines()
    assert [lines[problem.line - 1].strip() for problem in problems(template)] == ["JOIN secrets", "AND getenv("]


def test_every_bad_template_is_named_and_the_others_pass(tmp_path: Path) -> None:
    for name, table in (("good", "events"), ("bad", "x"), ("worse", "y")):
        loaded(tmp_path, f"FROM {table} WHERE customer = $customer", name=name)
    found = check_templates(load_templates(tmp_path))
    assert [Path(problem.file).name for problem in found] == ["bad.sql", "worse.sql"]


def test_a_declared_table_may_be_read_and_stays_as_written(tmp_path: Path) -> None:
    body = "SELECT * FROM events JOIN crm.Plans AS p USING (customer) WHERE customer = $customer"
    template = loaded(tmp_path, body, 'tables = ["CRM.plans"]')
    assert problems(template) == []
    assert "JOIN crm.Plans AS p" in executable(template)


def test_a_path_into_json_that_snowflake_does_not_have_is_a_problem(tmp_path: Path) -> None:
    [problem] = problems(loaded(tmp_path, "SELECT feature_json ->> '$.a*' FROM events WHERE customer = $customer"))
    assert problem.reason == "cannot be translated for snowflake: it has no such syntax"


def test_joins_that_nobody_could_parse_in_time_are_a_problem(tmp_path: Path) -> None:
    joined = "SELECT 1 FROM events" + "\nJOIN events ON TRUE" * 12
    assert problems(loaded(tmp_path, f"{joined} WHERE $customer")) == []
    more = "\nLEFT JOIN events AS e" * 90
    [problem] = problems(loaded(tmp_path, f"{joined}{more} WHERE $customer"))
    assert problem.reason == "a template joins at most 12 times"
    assert problem.line == 17


def test_deep_nesting_is_a_problem(tmp_path: Path) -> None:
    template = loaded(tmp_path, "SELECT " + "(" * 20000 + "1" + ")" * 20000 + " FROM events WHERE $customer")
    [problem] = problems(template)
    assert "nested too deeply" in problem.reason


def test_a_number_that_python_does_not_read_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, "SELECT 1 FROM events WHERE $customer", f"row_limit = {'9' * 5000}\n")
    [problem] = load_templates(tmp_path).problems
    assert problem.reason == "not TOML: a whole number of thousands of digits"


def test_a_name_as_long_as_a_file_is_shown_without_its_middle(tmp_path: Path) -> None:
    name = "a" * 5000
    [problem] = problems(loaded(tmp_path, "SELECT 1 FROM X WHERE $customer".replace("X", name)))
    assert problem.reason.startswith("aaa")
    assert "context_cache" in problem.reason
    assert len(problem.reason) < 1100
    write(tmp_path, "SELECT 1 FROM events WHERE $X".replace("X", name))
    [problem] = load_templates(tmp_path).problems
    assert problem.reason.endswith("aaa: write a placeholder as $name, and text between quotes")
    assert len(problem.reason) < 1100


@pytest.mark.parametrize(
    "call",
    [
        "getenv('HOME')",
        "\"getenv\"('HOME')",
        "main.\"getenv\"('HOME')",
        "\"current_setting\"('memory_limit')",
        "\"getvariable\"('x')",
        '"current_database"()',
        "json_serialize_plan('SELECT 1')",
        "json_serialize_sql('SELECT 1')",
        "json_execute_serialized_sql('{}')",
        "pg_get_viewdef(1)",
        '"pg_sleep"(1)',
        "has_table_privilege('x', 'SELECT')",
        "txid_current()",
        "version()",
        "session_user()",
        "SESSION_USER",
        "USER",
        "user()",
        "get_block_size('x')",
        "in_search_path('x', 'y')",
        "write_log('x')",
        "uc\u212a('x')",
        "my_macro(1)",
        "ai_generate('x')",
        "to_file('x')",
    ],
)
def test_a_function_that_is_not_known_is_refused_also_beside_a_snowflake_text(tmp_path: Path, call: str) -> None:
    (tmp_path / "mine.snowflake.sql").write_text("SELECT $customer", encoding="utf-8")
    template = loaded(tmp_path, "SELECT 1,\nCALL FROM events WHERE customer = $customer".replace("CALL", call))
    problem = problems(template)[-1]
    assert "not allowed" in problem.reason
    assert call.replace("main.", "").partition("(")[0].strip('"').lower() in problem.reason.lower()
    assert problem.file == template.source


def test_a_column_of_a_table_may_be_named_as_what_the_session_says(tmp_path: Path) -> None:
    body = "SELECT p.user FROM events JOIN crm.plans AS p USING (customer) WHERE customer = $customer"
    assert problems(loaded(tmp_path, body, 'tables = ["crm.plans"]')) == []


@pytest.mark.parametrize("name", ['"crm.plans"', '"crm.plans".x', "x.crm.plans", '"CRM"."plan\u017f"', "plans"])
def test_only_the_declared_table_itself_may_be_read(tmp_path: Path, name: str) -> None:
    body = "SELECT * FROM x WHERE $customer <> ''".replace("x", name)
    [problem] = problems(loaded(tmp_path, body, 'tables = ["crm.plans"]'))
    assert "may not be read" in problem.reason
