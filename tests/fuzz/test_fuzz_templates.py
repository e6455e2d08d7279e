"""Whatever a template file holds: it is a problem with its line, or a SELECT that shows nobody else's events."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import duckdb
import pytest
from tests.ddl.ddl_samples import atom, event, insert
from tests.ddl.template_samples import SINCE, answer, content
from tests.fuzz.fuzzing import Surface, fuzz

from snowledger_ddl import Catalogue, ParameterError, apply, check_templates, load_templates

HIDDEN = "beta knows"
SHORT = content("SELECT activity, COUNT(*) AS n FROM events WHERE customer = $customer GROUP BY ALL ORDER BY n;")
LONG = content(
    "WITH mine AS (SELECT * FROM events WHERE customer = $customer AND ts >= $now - INTERVAL ($since) SECOND)\n"
    "SELECT e.feature_json ->> '$.note' AS note, a.value FROM mine AS e LEFT JOIN insight_atoms AS a USING (customer)\n"
    "UNION ALL SELECT subject, value FROM insight_atoms WHERE customer = $customer",
    SINCE,
)
OURS = (resources.files("snowledger_ddl") / "templates" / "errors.sql").read_bytes()
SEEDS = [SHORT.encode(), LONG.encode(), OURS]
TOKENS = [
    *(
        b"-- ---\n",
        b"$customer",
        b"$customers",
        b"$now",
        b"$$",
        b"$1",
        b"?",
        b":x",
        b"--",
        b"/*",
        b"*/",
        b";",
        b"'",
        b"''",
    ),
    *(
        b"(",
        b")",
        b",",
        b"*",
        b" OR TRUE ",
        b" UNION ALL SELECT ",
        b" FROM ",
        b"raw_events",
        b"activities.events",
        b"mine",
    ),
    *(
        b"context_cache",
        b"read_csv('x')",
        b"CASE WHEN ",
        b"EXISTS (",
        b"WITH ",
        b"'acme'",
        b"beta",
        b"COLUMNS(*)",
        b"[" * 99,
    ),
    *(b"scope", b"type = ", b'"interval"', b'"list"', b'"customer"', b"row_limit = ", b"override = true", b"tables = "),
]


@pytest.fixture(scope="module")
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    """With events and insights of two customers."""
    connection = duckdb.connect(config={"threads": 1, "memory_limit": "256MB"})
    apply(connection, "duckdb")
    for customer, note in (("acme", "mine"), ("beta", HIDDEN)):
        insert(
            connection,
            event(customer=customer, feature_json={"note": note}, link=f"https://a.b/{note[-5:]}"),
            atom(subject=note, value=note) | {"customer": customer},
        )
    connection.execute("SET enable_external_access = false")
    yield connection
    connection.close()


def surface(folder: Path, warehouse: duckdb.DuckDBPyConnection) -> Surface:
    def run(data: bytes) -> str:
        (folder / "mine.sql").write_bytes(data)
        catalogue = load_templates(folder)
        template = catalogue.templates.get("mine")
        if template is None:
            [problem] = catalogue.problems
            assert problem.file == str(folder / "mine.sql")
            assert len(problem.reason) < 2000
            return "no template"
        if check_templates(Catalogue({"mine": template}, ())):
            return "a template that may not run"
        try:
            shown = answer(warehouse, template, row_cap=100)
        except (duckdb.Error, ParameterError):
            return "a query that fails"
        assert HIDDEN not in str(shown)
        return "rows" if shown else "no rows"

    return Surface(SEEDS, TOKENS, run)


def test_a_template_file_is_a_problem_or_shows_nobody_elses_events(
    scratch: Path, warehouse: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snowledger_ddl._catalogue._own_files", list)  # which take longer to read than the one
    outcomes = fuzz(surface(scratch, warehouse))
    assert outcomes["rows"]
