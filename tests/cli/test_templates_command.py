"""``snowledger templates``: what can be asked, how, and what is wrong with a file."""

import json
import shlex
from pathlib import Path

from tests.cli.cli_process import Cli, imported_by
from tests.cli.query_runner import answering, rows_of

from snowledger_ddl import load_templates

GOOD = """\
-- ---
-- answers = "How many events there are."
-- row_limit = 5
-- example = { word = "it's", words = ["a,b", "c"], since = "2d" }
-- [params.word]
-- type = "string"
-- description = "A word."
-- [params.words]
-- type = "list"
-- items = "string"
-- default = []
-- description = "Words."
-- [params.since]
-- type = "interval"
-- default = "7d"
-- description = "How far back."
-- ---
SELECT COUNT(*) AS events
FROM events
WHERE customer = $customer AND activity = $word AND ts >= $now - INTERVAL ($since) SECOND
  AND LIST_CONTAINS($words, activity)
"""


def write(cli: Cli, name: str, content: str = GOOD) -> Path:
    file = cli.folder / "own" / f"{name}.sql"
    file.parent.mkdir(exist_ok=True)
    file.write_text(content, encoding="utf-8")
    return file


def test_list_shows_every_template_with_its_parameters(cli: Cli) -> None:
    write(cli, "my_count")
    lines = cli.run("templates", "list", SNOWLEDGER_TEMPLATES_DIR="own").stdout.splitlines()
    own = next(number for number, line in enumerate(lines) if line.startswith("my_count "))
    assert lines[own].endswith("  How many events there are.")
    assert lines[own + 1].strip() == "word [words] [since]"
    names = {line.split()[0] for line in lines if not line.startswith(" ")}
    assert names == {*load_templates().templates, "my_count"}
    assert not cli.home.exists()


def test_list_as_json_is_an_object_on_each_line(cli: Cli) -> None:
    write(cli, "my_count")
    done = cli.run("templates", "list", "--json", SNOWLEDGER_TEMPLATES_DIR="own")
    found = {entry["name"]: entry for entry in map(json.loads, done.stdout.splitlines())}
    own = found["my_count"]
    assert own["required"] == ["word"]
    assert own["parameters"]["since"]["default"] == "7d"
    assert (own["scope"], own["row_limit"]) == ("own", 5)
    assert own["source"] == str(cli.folder / "own" / "my_count.sql")
    assert len(found) == len(load_templates().templates) + 1


def test_list_goes_on_without_a_bad_file_and_says_so(cli: Cli) -> None:
    write(cli, "bad", "SELECT 1")
    done = cli.run("templates", "list", SNOWLEDGER_TEMPLATES_DIR="own")
    assert "activity_counts" in done.stdout
    assert done.stderr == "1 problem in other files; see snowledger templates check\n"


def test_show_says_what_a_template_takes_and_its_example_can_be_run(cli: Cli) -> None:
    write(cli, "my_count")
    text = cli.run("templates", "show", "my_count", SNOWLEDGER_TEMPLATES_DIR="own").stdout
    assert text.startswith("my_count: How many events there are.\n")
    assert "string of at most 1000 characters; required" in text
    assert "a list of string, between commas, at most 100 items; default []" in text
    assert '; default "7d"' in text
    assert "\n  FROM events\n" in text
    command = shlex.split(text.split("\nTry it\n")[1].splitlines()[0])
    with answering(cli.spool, rows_of("SELECT 1 AS events")) as begun:
        cli.run(*command[1:], SNOWLEDGER_TEMPLATES_DIR="own")
    assert json.loads(begun[0].params) == {"word": "it's", "words": ["a,b", "c"], "since": 172800}


def test_every_template_of_ours_is_shown_with_an_example(cli: Cli) -> None:
    for name in ("activity_counts", "funnel", "recent_events"):
        text = cli.run("templates", "show", name).stdout
        assert f"\n  snowledger query {name}" in text
        assert "\nSQL\n" in text


def test_a_name_that_there_is_not_is_said_with_what_was_meant(cli: Cli) -> None:
    done = cli.run("templates", "show", "funel", code=1)
    assert done.stderr == "snowledger: there is no template 'funel'; did you mean funnel?\n"


def test_check_finds_nothing_wrong_with_ours_and_good_ones(cli: Cli) -> None:
    ours = len(load_templates().templates)
    assert cli.run("templates", "check").stdout == f"{ours} templates good, 0 problems\n"
    write(cli, "my_count")
    assert cli.run("templates", "check", "own").stdout == f"{ours + 1} templates good, 0 problems\n"


def test_check_names_file_line_and_reason_of_everything_and_counts_the_good(cli: Cli) -> None:
    write(cli, "my_count")
    two = write(cli, "two", GOOD.rstrip() + ";\nDROP TABLE events\n")
    unknown = write(cli, "unknown", GOOD.replace("-- row_limit = 5", "-- row_limti = 5"))
    taken = write(cli, "funnel")
    done = cli.run("templates", "check", code=1, SNOWLEDGER_TEMPLATES_DIR="own")
    *problems, summary = done.stdout.splitlines()
    assert summary == f"{len(load_templates().templates) + 1} templates good, {len(problems)} problems"
    assert any(line.startswith(f"{two}:") for line in problems)
    assert any(line.startswith(f"{unknown}:") and "row_limti" in line for line in problems)
    assert any(line.startswith(f"{taken}:1: ") and "override = true" in line for line in problems)


def test_check_of_a_folder_that_there_is_not_is_a_problem(cli: Cli) -> None:
    done = cli.run("templates", "check", "nowhere", code=1)
    assert "nowhere: the folder cannot be read: No such file or directory" in done.stdout


def test_looking_at_templates_loads_no_parser_and_no_driver(cli: Cli) -> None:
    for arguments in (["templates", "list"], ["templates", "show", "funnel"]):
        loaded = imported_by(cli, *arguments)
        assert "snowledger_ddl" in loaded
        assert loaded & {"sqlglot", "duckdb", "mcp", "rich", "snowledger_server", "snowledger_uploader"} == set()
