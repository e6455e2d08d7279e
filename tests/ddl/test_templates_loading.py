"""Loading templates: front matter, files that are none, and a user's folder beside ours."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.ddl.template_samples import SINCE, content, loaded, theirs, write

from snowledger_ddl import Template, TemplateProblem, check_templates, checked_parameters, contract, load_templates

BODY = "SELECT 1 FROM events WHERE customer = $customer"
WITH_SINCE = f"{BODY} AND ts >= $now - INTERVAL ($since) SECOND"


def test_ours_load_and_check_without_a_problem() -> None:
    catalogue = load_templates()
    assert catalogue.problems == ()
    assert check_templates(catalogue) == ()
    assert len(catalogue.templates) >= 12
    assert list(catalogue.templates) == sorted(catalogue.templates)


@pytest.mark.parametrize("template", load_templates().templates.values(), ids=lambda template: template.name)
def test_each_of_ours_has_an_example_reads_the_contract_only_and_needs_at_most_one_parameter(
    template: Template,
) -> None:
    assert template.example
    assert checked_parameters(template, template.example)
    assert template.tables == ()
    assert sum(parameter.required for parameter in template.parameters) <= 1


def test_importing_and_loading_never_imports_a_sql_parser() -> None:
    script = "import sys, snowledger_ddl; snowledger_ddl.load_templates(); print('sqlglot' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=30, text=True)
    assert printed.stdout.strip() == "False"


def test_loading_costs_milliseconds() -> None:
    costs = []
    for _ in range(5):
        begun = time.perf_counter()
        load_templates()
        costs.append(time.perf_counter() - begun)
    assert min(costs) < 0.1


def test_a_template_has_what_its_file_says(tmp_path: Path) -> None:
    matter = 'scope = "allowed"\nrow_limit = 7\nexample = { since = "2h" }\ntables = ["plans"]\n' + SINCE
    template = loaded(tmp_path, "\n" + WITH_SINCE.replace("customer = $customer", "$customers IS NOT NULL"), matter)
    assert (template.name, template.answers, template.scope) == ("mine", "What is asked.", "allowed")
    assert (template.row_limit, template.example, template.tables) == (7, {"since": "2h"}, ("plans",))
    [since] = template.parameters
    assert (since.name, since.type, since.required, since.default) == ("since", "interval", False, 7 * 86400)
    assert template.source == str(tmp_path / "mine.sql")
    lines = (tmp_path / "mine.sql").read_text(encoding="utf-8").splitlines()
    assert lines[template.text_line - 1] == template.text


def test_line_ends_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    plain = loaded(tmp_path, BODY + "\n  AND ts IS NOT NULL")
    text = content(BODY + "\n  AND ts IS NOT NULL").replace("\n", "\r\n")
    (tmp_path / "mine.sql").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_templates(tmp_path).templates["mine"] == plain


def test_a_table_of_the_file_itself_is_none_of_a_schema(tmp_path: Path) -> None:
    path = write(tmp_path, BODY, 'tables = ["Warehouse.notes"]')
    [problem] = load_templates(tmp_path, "warehouse").problems
    assert (problem.file, problem.line) == (str(path), 3)
    assert problem.reason == (
        "tables: Warehouse.notes: warehouse is the DuckDB file itself and no schema; accepted: table or schema.table"
    )
    assert load_templates(tmp_path, "another").problems == load_templates(tmp_path).problems == ()


PARAMETER = '[params.x]\ntype = "{}"\ndescription = "X."\n'
X = f"{BODY} AND activity = $x"

UNREADABLE = (
    "main.notes",
    "System.duckdb_settings",
    "temp.staged",
    "pg_catalog.pg_tables",
    "duckdb_databases",
    "crm.duckdb_views",
    "pg_tables",
    "sqlite_master",
    "pragma_database_list",
    "secret.csv",
    "secret.CSV",
    "x.parquet",
    "x.json",
    "x.ndjson",
    "x.jsonl",
    "w.db",
    "w.duckdb",
    "x.tsv",
    "x.xlsx",
    "w.sqlite",
)

CONTRACT = sorted({*contract("duckdb"), *contract("snowflake"), "_landing", "EVENTS_LIVE"})
"""What the contract has on any warehouse, and the table that a batch is read into."""

MATTERS = [
    ("answers = 5", BODY, 2, "answers is missing"),
    ('answers = "a"\nanswers = "b"', BODY, 3, "not TOML"),
    ('answers = "a"\nrow_limit =', BODY, 3, "not TOML"),
    ('answers = "a"\nlimit = 5', BODY, 3, "'limit' is not known here; known: answers"),
    ('answers = "a"\nrow_limit = 0', BODY, 3, "from 1 to"),
    ('answers = "a"\nrow_limit = true', BODY, 3, "row_limit must be an integer"),
    ('answers = "a"\nscope = "all"', BODY, 3, "scope is 'all'; accepted: own, allowed"),
    ('answers = "a"\noverride = 1', BODY, 3, "override must be true or false"),
    ('answers = "a"\ntables = ["a.b.c"]', BODY, 3, "'a.b.c' is no name"),
    ('answers = "a"\ntables = ["Activities.raw_events"]', BODY, 3, "may not be read directly"),
    ('answers = "a"\ntables = ["information_schema.tables"]', BODY, 3, "may not be read directly"),
    ('answers = "a"\ntables = ["EVENTS"]', BODY, 3, "may not be read directly"),
    *((f'answers = "a"\ntables = ["{name}"]', BODY, 3, "may not be read directly") for name in UNREADABLE),
    *((f'answers = "a"\ntables = ["{name}"]', BODY, 3, "may not be read directly") for name in CONTRACT),
    *((f'answers = "a"\ntables = ["Crm.{name}"]', BODY, 3, "may not be read directly") for name in CONTRACT),
    *(
        (f'answers = "a"\ntables = ["{name}"]', BODY, 3, "is no name")
        for name in ("crm.é", "boo\u212a", "a b", "a.", "")
    ),
    ('answers = "a"\nexample = { y = 1 }', BODY, 3, "example: y: is no parameter of this template"),
    ('answers = "a"\n' + PARAMETER.format("string"), X, 1, "example: x: is missing; accepted: text"),
    ('answers = "a"\n' + PARAMETER.format("text"), X, 4, "params.x: type is 'text'; accepted: string"),
    ('answers = "a"\n[params.x]\ntype = "string"', X, 3, "params.x: description is missing"),
    ('answers = "a"\n' + PARAMETER.format("string") + "min = 1", X, 6, "params.x: 'min' is not known here"),
    ('answers = "a"\n' + PARAMETER.format("integer") + 'default = "7"', X, 6, "default: '7' is not accepted"),
    ('answers = "a"\n' + PARAMETER.format("integer") + "default = 1\nmin = 2", X, 6, "accepted: an integer from 2"),
    ('answers = "a"\n' + PARAMETER.format("integer") + "min = 2\nmax = 1", X, 6, "min is larger than max"),
    ('answers = "a"\n' + PARAMETER.format("interval") + 'default = "7x"', X, 6, "'7x' is not accepted"),
    ('answers = "a"\n' + PARAMETER.format("number") + "default = nan", X, 6, "nan is not accepted"),
    ('answers = "a"\n' + PARAMETER.format("enum"), X, 3, "values is a list"),
    ('answers = "a"\n' + PARAMETER.format("enum") + 'values = ["a"]\ndefault = "b"', X, 7, "accepted: one of a"),
    ('answers = "a"\n' + PARAMETER.format("list"), X, 3, "items is missing; accepted: string"),
    ('answers = "a"\n' + PARAMETER.format("list") + 'items = "list"', X, 6, "items is 'list'"),
    ('answers = "a"\n' + PARAMETER.format("list") + 'items = "integer"\ndefault = ["1"]', X, 7, "item 0 is '1'"),
    ('answers = "a"\n' + PARAMETER.format("string"), BODY, 3, "params.x: declared and not used"),
    ('answers = "a"\nparams = 5', BODY, 3, "params must be a table"),
    ('answers = "a"\nparams.x = 5', BODY, 1, "x is no table"),
    ('answers = "a"\n' + PARAMETER.format("string").replace("x", "X"), BODY, 3, "name is made of lower-case"),
    *(
        ('answers = "a"\n' + PARAMETER.format("string").replace("x", name), BODY, 3, "is bound by the query runner")
        for name in ("customer", "customers", "now")
    ),
]


@pytest.mark.parametrize(("matter", "body", "line", "reason"), MATTERS)
def test_a_wrong_front_matter_is_a_problem_with_its_line(
    tmp_path: Path, matter: str, body: str, line: int, reason: str
) -> None:
    (tmp_path / "bad.sql").write_text(content(body, matter, answers=""), encoding="utf-8")
    write(tmp_path, BODY)
    found = theirs(tmp_path)
    assert list(found.templates) == ["mine"]
    [problem] = found.problems
    assert problem.file == str(tmp_path / "bad.sql")
    assert problem.line == line, problem
    assert reason in problem.reason
    assert "\n" not in str(problem)


BODIES = [
    ("SELECT 1 FROM events\nWHERE customer = $customer\nAND a = $b", 6, "$b is used and not declared"),
    ("SELECT 1 FROM events\nWHERE customer = $customer AND $1", 5, "$1: write a placeholder as $name"),
    ("SELECT $$ x $$ FROM events\nWHERE customer = $customer", 4, "text between quotes"),
    ("SELECT $Customer FROM events", 4, "write a placeholder as $name"),
    ("SELECT 1 FROM events", 4, "$customer is not used"),
    ("SELECT '$customer', \"$customer\" -- $customer\n/* $customer */ FROM events", 4, "$customer is not used"),
    ("SELECT 1 FROM events\nWHERE $customers = $customer", 5, "$customers is bound only with scope"),
    ("", 3, "there is no statement"),
]


@pytest.mark.parametrize(("body", "line", "reason"), BODIES)
def test_a_statement_whose_placeholders_are_wrong_is_a_problem_with_its_line(
    tmp_path: Path, body: str, line: int, reason: str
) -> None:
    write(tmp_path, body)
    [problem] = theirs(tmp_path).problems
    assert reason in problem.reason
    assert problem.line == line, problem


def test_a_template_for_allowed_customers_says_so_in_its_condition(tmp_path: Path) -> None:
    write(tmp_path, BODY, 'scope = "allowed"')
    [problem] = theirs(tmp_path).problems
    assert "$customers is not used" in problem.reason


CONTENTS = [
    (b"SELECT 1", 1, "must begin with a front matter"),
    (b"", 1, "must begin with a front matter"),
    (b"-- ---\n-- answers = 'x'\nSELECT 1", 3, "every line of the front matter begins"),
    (b"-- ---\n-- answers = 'x'\n", 3, "every line of the front matter begins"),
    (b"-- ---", 1, "has no end"),
    (b"-- ---\n-- answers = '\xff'\n-- ---\nSELECT 1", 2, "not UTF-8"),
    (b"-- ---\n-- answers = 'x'\n-- ---\nSELECT \0 1", 4, "NUL"),
    (b"-- ---\n-- a = " + b"[" * 20000 + b"\n-- ---\nSELECT 1", None, "not TOML"),
    (content(BODY + " " * 65536).encode(), 0, "larger than 64 KiB"),
]


@pytest.mark.parametrize(("data", "line", "reason"), CONTENTS, ids=[reason for _, _, reason in CONTENTS])
def test_a_file_that_is_no_template_is_a_problem_with_its_line(
    tmp_path: Path, data: bytes, line: int | None, reason: str
) -> None:
    (tmp_path / "bad.sql").write_bytes(data)
    [problem] = theirs(tmp_path).problems
    assert reason in problem.reason
    assert line is None or problem.line == line


@pytest.mark.parametrize("name", ["Mine", "1st", "with-dash", "mine.oracle", "mine.duckdb", "a" * 65, "\uff4dine", " "])
def test_a_file_with_another_name_is_a_problem(tmp_path: Path, name: str) -> None:
    write(tmp_path, BODY, name=name)
    found = theirs(tmp_path)
    assert found.templates == {}
    [problem] = found.problems
    assert problem.reason.startswith("a template's file is NAME.sql or NAME.snowflake.sql")


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("README.md", ".hidden.sql", "mine.sql~", "mine.SQL"):
        (tmp_path / name).write_text("nothing", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    assert theirs(tmp_path).problems == ()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_links_folders_and_fifos_are_never_read(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.txt"
    target.write_text(content(BODY), encoding="utf-8")
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "link.sql").symlink_to(target)
    (folder / "dangling.sql").symlink_to(tmp_path / "nowhere")
    (folder / "folder.sql").mkdir()
    os.mkfifo(folder / "fifo.sql")
    write(folder, BODY)
    found = theirs(folder)
    assert list(found.templates) == ["mine"]
    assert [Path(problem.file).name for problem in found.problems] == [
        "dangling.sql",
        "fifo.sql",
        "folder.sql",
        "link.sql",
    ]


def test_a_folder_that_is_not_there_is_a_problem_and_ours_load(tmp_path: Path) -> None:
    catalogue = load_templates(tmp_path / "nowhere")
    assert catalogue.templates == load_templates().templates
    assert catalogue.problems == (
        TemplateProblem(str(tmp_path / "nowhere"), 0, "the folder cannot be read: No such file or directory"),
    )


def test_a_users_template_replaces_ours_only_when_it_says_so(tmp_path: Path) -> None:
    write(tmp_path, BODY, name="errors")
    found = theirs(tmp_path)
    assert found.templates == {}
    [problem] = found.problems
    assert "override = true" in problem.reason
    write(tmp_path, BODY, "override = true", name="errors")
    found = theirs(tmp_path)
    assert found.problems == ()
    assert found.templates["errors"].text == BODY


def test_a_bad_replacement_is_a_problem_and_ours_stays(tmp_path: Path) -> None:
    write(tmp_path, "SELECT 1", "override = true", name="errors")
    found = theirs(tmp_path)
    assert found.templates == {}
    assert len(found.problems) == 1


def test_a_snowflake_text_is_taken_up_and_held_to_the_same_placeholders(tmp_path: Path) -> None:
    write(tmp_path, WITH_SINCE, SINCE)
    (tmp_path / "mine.snowflake.sql").write_text(
        "SELECT 1 FROM events WHERE customer = $customer AND ts >= DATEADD(second, -$since, $now)\n", encoding="utf-8"
    )
    found = theirs(tmp_path)
    assert found.problems == ()
    assert found.templates["mine"].dialect_texts["snowflake"].endswith("$now)")
    (tmp_path / "mine.snowflake.sql").write_text(BODY, encoding="utf-8")
    found = theirs(tmp_path)
    assert found.templates == {}
    assert "mine.snowflake.sql: declared and not used" in found.problems[0].reason


def test_a_snowflake_text_alone_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "mine.snowflake.sql").write_text(BODY, encoding="utf-8")
    assert theirs(tmp_path).problems == (
        TemplateProblem(str(tmp_path / "mine.snowflake.sql"), 0, "there is no mine.sql beside it"),
    )


@pytest.mark.parametrize("name", ["../errors", "errors.sql", "/etc/passwd", "Errors", "errors\0", "\uff45rrors", ""])
def test_a_name_that_is_a_path_or_looks_alike_finds_no_template(name: str) -> None:
    assert name not in load_templates().templates
