"""Templates on Snowflake: what DuckDB's SQL becomes, what it cannot become, and texts of Snowflake's own."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from sqlfluff.core import FluffConfig, Linter
from tests.ddl.template_samples import SINCE, loaded, problems

from snowledger_ddl import Template, executable, load_templates, positional

SNOWFLAKE = Linter(config=FluffConfig(overrides={"dialect": "snowflake"}))


@pytest.mark.parametrize("template", load_templates().templates.values(), ids=lambda template: template.name)
def test_each_of_ours_is_said_in_snowflake_with_every_placeholder(template: Template) -> None:
    text = executable(template, "snowflake")
    for parameter in template.parameters:
        assert f":{parameter.name}" in text
    assert f":{template.isolated_by}" in text
    assert "activities." not in text, "the schema is the session's"
    assert "INTERVAL" not in text
    assert "$" not in text


@pytest.mark.parametrize("template", load_templates().templates.values(), ids=lambda template: template.name)
def test_each_of_ours_is_snowflake_s_sql_to_another_parser(template: Template) -> None:
    # The placeholders are the one thing that it does not know.
    text = re.sub(r":\w+", "1", executable(template, "snowflake"))
    assert SNOWFLAKE.parse_string(text).violations == []


def test_what_a_cast_could_not_read_is_null_in_snowflake_too() -> None:
    assert "TRY_CAST(CAST(GET_PATH(feature_json, 'latency_ms') AS VARCHAR) AS DOUBLE)" in executable(
        load_templates().templates["tool_latency"], "snowflake"
    )


ASKED = "SELECT ASKED AS x FROM events WHERE customer = $customer"

SECONDS = "(CAST(DATEDIFF(MICROSECOND, CAST('1970-01-01' AS TIMESTAMP), ts) AS DOUBLE) / 1000000)"

SAID_OTHERWISE = [
    ("regexp_matches(activity, '\\d')", "(REGEXP_INSTR(activity, '\\\\d') > 0)"),
    ("activity !~ 'b' = TRUE", "NOT (REGEXP_INSTR(activity, 'b') > 0) = TRUE"),
    ("DAYOFWEEK(ts) * 2", "(DAYOFWEEKISO(ts) % 7) * 2"),
    *((f"EXTRACT({part} FROM ts)", "(DAYOFWEEKISO(ts) % 7)") for part in ("dow", "'DOW'", "dayofweek", "weekday")),
    ("EXTRACT(month FROM ts)", "DATE_PART(MONTH, ts)"),
    *((f"EXTRACT({part} FROM ts)", "DATE_PART(DAYOFWEEKISO, ts)") for part in ("isodow", "'ISODOW'")),
    ("EXTRACT(isoyear FROM ts)", "DATE_PART(YEAROFWEEKISO, ts)"),
    *((f"{since} * 1000", f"{SECONDS} * 1000") for since in ("epoch(ts)", "EXTRACT(epoch FROM (ts))")),
    ("epoch(activity_repeated_at - ts)", "(CAST(DATEDIFF(MICROSECOND, ts, activity_repeated_at) AS DOUBLE) / 1000000)"),
    ('STRUCT_PACK("a" := 1, rows := 2)', "OBJECT_CONSTRUCT('a', 1, 'rows', 2)"),
]


@pytest.mark.parametrize(("expression", "said"), SAID_OTHERWISE)
def test_what_snowflake_means_otherwise_is_said_in_other_words(tmp_path: Path, expression: str, said: str) -> None:
    template = loaded(tmp_path, ASKED.replace("ASKED", expression))
    text = executable(template, "snowflake")
    assert text.startswith("SELECT ASKED AS x FROM (".replace("ASKED", said))
    assert SNOWFLAKE.parse_string(text.replace(":customer", "1")).violations == []


NOT_SAID = [
    ("regexp_matches(activity, 'A', 'i')", "only ~ and regexp_matches(text, pattern)"),
    ("activity ~* 'A'", "only ~ and regexp_matches(text, pattern)"),
    ("regexp_full_match(activity, 'a')", "only ~ and regexp_matches(text, pattern)"),
    ("regexp_replace(activity, 'a', 'b')", "only ~ and regexp_matches(text, pattern)"),
    ("regexp_extract(activity, 'a')", "only ~ and regexp_matches(text, pattern)"),
    ("regexp_extract_all(activity, 'a')", "only ~ and regexp_matches(text, pattern)"),
    ("epoch_ms(ts)", "epoch_ms cannot be translated for Snowflake, for it goes both ways; write epoch(…) * 1000"),
    ("EXTRACT(century FROM ts)", "EXTRACT(century …) cannot be translated for Snowflake; accepted: day, dayofmonth,"),
    ("DISTINCT ON (activity) activity", "no DISTINCT ON; write QUALIFY"),
]


@pytest.mark.parametrize(("expression", "reason"), NOT_SAID)
def test_what_would_answer_otherwise_on_snowflake_needs_a_text_of_its_own(
    tmp_path: Path, expression: str, reason: str
) -> None:
    body = ASKED.replace("ASKED", expression)
    [problem] = problems(loaded(tmp_path, body))
    assert reason in problem.reason
    (tmp_path / "mine.snowflake.sql").write_text("SELECT $customer", encoding="utf-8")
    assert problems(loaded(tmp_path, body)) == []


def test_a_quoted_name_in_lower_case_finds_the_column_on_snowflake_too(tmp_path: Path) -> None:
    body = """SELECT a."rows", a.bytes AS "size", bytes + 1 AS "Larger", 1 AS "ß" FROM "artifacts" AS "a"
        WHERE "customer" = $customer ORDER BY "size", size, "Larger" """
    text = executable(loaded(tmp_path, body), "snowflake")
    assert text.startswith(
        'SELECT a."ROWS", a.bytes AS "SIZE", bytes + 1 AS "Larger", 1 AS "ß" FROM (SELECT * FROM artifacts '
    )
    assert text.endswith('AS "A" WHERE "CUSTOMER" = :customer ORDER BY "SIZE", size, "Larger" LIMIT 1000')


def test_a_column_finds_itself_however_it_is_written_and_a_name_of_the_template_s_own_stays(tmp_path: Path) -> None:
    body = """WITH "Mine" AS (SELECT "Activity", ts AS "At" FROM "Events" WHERE "CUSTOMER" = $customer)
        SELECT "Mine"."ACTIVITY", "At" FROM "Mine" ORDER BY "At" """
    text = executable(loaded(tmp_path, body), "snowflake")
    assert text.startswith('WITH cte_1_mine AS (SELECT "ACTIVITY", ts AS "At" FROM (SELECT * FROM ')
    assert text.endswith('SELECT "Mine"."ACTIVITY", "At" FROM cte_1_mine AS "Mine" ORDER BY "At" LIMIT 1000')


UNWRITABLE = [
    ("SELECT {'a': 1}.a FROM events WHERE customer = $customer", "a member of a value"),
    ("SELECT {'customer': 1}.customer FROM events WHERE customer = $customer", "a member of a value"),
    ("SELECT 1 FROM events AS e POSITIONAL JOIN events AS f WHERE e.customer = $customer", "it has no such syntax"),
    ("SELECT activity[1:ts] FROM events WHERE customer = $customer", None),
]


@pytest.mark.parametrize(("body", "reason"), UNWRITABLE)
def test_what_snowflake_cannot_read_or_would_take_for_a_placeholder_is_a_problem(
    tmp_path: Path, body: str, reason: str | None
) -> None:
    [problem] = problems(loaded(tmp_path, body))
    assert "cannot be translated for snowflake" in problem.reason.lower()
    assert reason is None or reason in problem.reason
    assert "\n" not in str(problem)


@pytest.mark.parametrize("limit", ["-1", "NULL"])
def test_a_limit_that_is_no_number_stays_within_the_cap(tmp_path: Path, limit: str) -> None:
    template = loaded(tmp_path, "SELECT 1 FROM events WHERE customer = $customer LIMIT X".replace("X", limit))
    assert problems(template) == []
    for dialect in ("duckdb", "snowflake"):
        assert executable(template, dialect).endswith(f" LIMIT {limit}) AS result LIMIT 1000")


def test_distinct_on_is_refused_in_a_snowflake_text(tmp_path: Path) -> None:
    (tmp_path / "mine.snowflake.sql").write_text(
        "SELECT DISTINCT ON (activity) ts FROM events WHERE customer = $customer", encoding="utf-8"
    )
    [problem] = problems(loaded(tmp_path, "SELECT $customer"))
    assert problem.file.endswith("mine.snowflake.sql")
    assert "no DISTINCT ON" in problem.reason


def test_snowflake_gets_values_by_place_and_lists_item_by_item(tmp_path: Path) -> None:
    matter = 'scope = "allowed"\n[params.days]\ntype = "list"\nitems = "date"\ndefault = []\ndescription = "Which."\n'
    body = """
        SELECT 'it''s :customers, $days?' AS text, ':days' AS "a:days" FROM events
        WHERE LIST_CONTAINS($customers, customer) AND LIST_CONTAINS($days, CAST(ts AS DATE))
    """
    text = executable(loaded(tmp_path, body, matter), "snowflake")
    customers, days = ["acme", "b' OR 1=1 --"], [date(2026, 11, 21)]
    bound = {"customers": customers, "days": days}
    sql, values = positional(text, bound)
    assert sql.endswith(
        "FROM (SELECT * FROM events WHERE customer IN (?, ?)) AS events"
        " WHERE ARRAY_CONTAINS(CAST(customer AS VARIANT), ARRAY_CONSTRUCT(?, ?))"
        " AND ARRAY_CONTAINS(CAST(CAST(ts AS DATE) AS VARIANT), ARRAY_CONSTRUCT(?)) LIMIT 1000"
    )
    assert sql.startswith(text[: text.index(" FROM")])
    assert values == [*customers, *customers, *days]
    assert "ARRAY_CONSTRUCT()" in positional(text, bound | {"days": []})[0]


def test_a_parameter_as_limit_needs_a_snowflake_text(tmp_path: Path) -> None:
    template = loaded(
        tmp_path,
        "SELECT ts FROM events WHERE customer = $customer LIMIT $n",
        '[params.n]\ntype = "integer"\ndefault = 5\ndescription = "Rows."\n',
    )
    executable(template)
    [problem] = problems(template)
    assert "NAME.snowflake.sql" in problem.reason


def test_a_snowflake_text_is_checked_isolated_and_used(tmp_path: Path) -> None:
    body = (
        "SELECT json_group_array(ts) FROM events WHERE customer = $customer AND ts >= $now - INTERVAL ($since) SECOND"
    )
    text = "SELECT OBJECT_KEYS(feature_json) FROM events\nWHERE customer = $customer AND ts > $now AND $since > 0"
    path = tmp_path / "mine.snowflake.sql"
    path.write_text(text, encoding="utf-8")
    template = loaded(tmp_path, body, SINCE)
    assert problems(template) == []
    assert "JSON_GROUP_ARRAY(ts)" in executable(template)
    snowflake = executable(template, "snowflake")
    assert "OBJECT_KEYS(feature_json)" in snowflake
    assert "(SELECT * FROM events WHERE customer = :customer) AS events" in snowflake

    path.write_text(text.replace("FROM events", "FROM\nsecrets"), encoding="utf-8")
    [problem] = problems(loaded(tmp_path, body, SINCE))
    assert (problem.file, problem.line) == (str(path), 2)
    assert problem.reason.startswith("secrets may not be read")


def test_an_interval_that_is_no_literal_is_only_translated_where_it_can_be(tmp_path: Path) -> None:
    body = "SELECT ts - INTERVAL (LENGTH(activity)) SECOND * 2 FROM events WHERE customer = $customer"
    [problem] = problems(loaded(tmp_path, body))
    assert "can only be added to a time or subtracted from it" in problem.reason
