"""`make check` refuses Snowflake SQL that is broken."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.project.sql_gate import dml_problems, problems, unparsed, uploader_statements, view_problems

from snowledger_ddl import statements

ROOT = Path(__file__).parents[2]
FILES = ROOT / "ddl" / "snowledger_ddl" / "snowflake"

# Each breaks one file: what stands there, and what is put in its place.
BREAKS = {
    "01_loader_role.sql": ("CREATE ROLE IF NOT EXISTS", "CREATE ROLL IF NOT EXISTS"),
    "03_warehouse.sql": ("GRANT USAGE ON WAREHOUSE", "GRANT USAGE WAREHOUSE"),
    "05_schema.sql": ("COMMENT ON SCHEMA", "COMMENT SCHEMA"),
    "08_raw_events.sql": ("COMMENT 'When that batch was loaded, UTC'", "COMMENT"),
    "09__ingest_ids.sql": (");", ";"),
    "10_events_live.sql": ("GROUP BY activity_id", "GROUP activity_id"),
    "11_events.sql": ("TARGET_LAG = ", "TARGET LAG = "),
    "12_insight_atoms.sql": ("COALESCE(AS_BOOLEAN(", "COALESCE((AS_BOOLEAN("),
    "14_artifacts.sql": ('"ROWS" COMMENT', "ROWS COMMENT"),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """As the Makefile does it."""
    command = [sys.executable, "-m", "sqlfluff", "lint", "--disable-progress-bar", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_make_check_runs_both() -> None:
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe is not None
    assert "sqlfluff lint --disable-progress-bar ddl/snowledger_ddl/snowflake" in recipe[1]
    assert "python tests/project/sql_gate.py" in recipe[1]


def test_a_broken_file_of_ddl_is_refused(tmp_path: Path) -> None:
    # sqlfluff looks for its configuration beside the files, too.
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / ".sqlfluff").write_text((ROOT / ".sqlfluff").read_text(encoding="utf-8"))
    for name, (old, new) in BREAKS.items():
        text = (FILES / name).read_text(encoding="utf-8")
        assert old in text
        (broken / name).write_text(text.replace(old, new, 1))
    done = lint(broken)
    assert done.returncode == 1
    failed = re.findall(r"^== \[.*?([\w.]+)\] FAIL", done.stdout, re.MULTILINE)
    assert failed == list(BREAKS)
    assert done.stdout.count("PRS") >= len(BREAKS)


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("10_events_live.sql", "payload:link", "paylod:link", "PAYLOD"),
        ("11_events.sql", "    revenue_impact,\n", "", "are selected"),
        ("13_context_cache.sql", "moment.as_of", "moment.at", "AT"),
        ("12_insight_atoms.sql", ".EVENTS\n", ".EVENT\n", "could not be resolved"),
    ],
)
def test_a_view_of_columns_that_there_are_not_is_refused(file: str, old: str, new: str, problem: str) -> None:
    every = statements("snowflake")
    assert list(view_problems(every)) == []
    broken = [replace(one, sql=one.sql.replace(old, new)) if one.file == f"snowflake/{file}" else one for one in every]
    assert broken != list(every)
    (found,) = view_problems(broken)
    assert found.startswith(f"snowflake/{file}: ")
    assert problem in found


@pytest.mark.parametrize("sql", ["INSERT INTO t (SELECT 1", "MERGE INTO t USING s", "SELECT a FROM WHERE b = (1"])
def test_a_statement_that_is_none_is_refused(sql: str) -> None:
    assert len(list(dml_problems("here", sql))) == 1
    assert len(list(unparsed("here", sql))) == 1


def test_the_statements_of_the_loader_are_among_what_is_checked() -> None:
    verbs = {sql.split(maxsplit=1)[0] for _, sql in uploader_statements()}
    assert verbs >= {"PUT", "CREATE", "COPY", "INSERT", "SELECT"}


def test_nothing_is_wrong_now() -> None:
    assert list(problems()) == []
