"""The SQL of Snowflake, as far as it can be looked at without an account."""

from __future__ import annotations

import re

import pytest
from tests.ddl.ddl_samples import COLUMNS

from snowledger_ddl import DdlError, SnowflakeNames, contract, pending, render, statements

EVERYTHING = SnowflakeNames(loader_user="UPLOADER", search_optimization=True)
OWN = SnowflakeNames(database="D", schema="S", warehouse="W", loader_role="L", reader_role="R")
OBJECTS = [
    *("CLAUDE_LOGS_LOADER", "CLAUDE_LOGS_READER", "CLAUDE_LOGS_WH", "CLAUDE_LOGS", "ACTIVITIES"),
    *("_ndjson", "_batches", "raw_events", "_ingest_ids"),
    *("events_live", "events", "insight_atoms", "context_cache", "artifacts", "UPLOADER"),
]


def sql_of(names: SnowflakeNames) -> list[str]:
    """The statements without their comments."""
    return [re.sub(r"^--.*\n", "", one.sql, flags=re.MULTILINE) for one in statements("snowflake", names)]


def test_files_come_in_order_one_object_each() -> None:
    every = statements("snowflake", EVERYTHING)
    assert list(dict.fromkeys(one.object for one in every)) == OBJECTS
    assert [one.file for one in every] == sorted(one.file for one in every)


def test_every_variable_is_filled_in_and_every_name_quoted() -> None:
    for sql in sql_of(OWN):
        assert "${" not in sql
        assert "{version}" not in sql
        assert "CLAUDE_LOGS" not in sql
        for name in ("D", "S", "W", "L", "R"):
            assert re.search(rf'(?<!["\w]){name}(?!["\w])', re.sub("'.*?'", "", sql)) is None


@pytest.mark.parametrize("name", ["", "a", "A-B", 'A"B', "A B", "1A", "A.B", "A;DROP", "Ä", "A" * 256, "A\n", "$A"])
@pytest.mark.parametrize("variable", ["database", "schema", "warehouse", "loader_role", "reader_role", "loader_user"])
def test_a_name_that_is_no_plain_identifier_is_refused(variable: str, name: str) -> None:
    with pytest.raises(DdlError, match=rf"(?s){variable} .* accepted: upper-case letters"):
        SnowflakeNames(**{variable: name})  # type: ignore[arg-type]


def test_the_user_and_search_optimization_are_made_only_when_asked_for() -> None:
    without, with_all = sql_of(SnowflakeNames()), sql_of(EVERYTHING)
    extra = [sql for sql in with_all if "UPLOADER" in sql or "SEARCH OPTIMIZATION" in sql]
    assert len(extra) == 6
    assert len(without) == len(with_all) - len(extra)


def test_an_option_or_a_name_is_part_of_an_object_s_version() -> None:
    def versions(names: SnowflakeNames) -> dict[str, str]:
        return {one.file: one.version for one in statements("snowflake", names)}

    before = versions(SnowflakeNames())
    optimized = versions(SnowflakeNames(search_optimization=True))
    assert {file for file in before if before[file] != optimized[file]} == {"snowflake/08_raw_events.sql"}
    renamed = versions(SnowflakeNames(loader_role="OTHER"))
    assert renamed["snowflake/08_raw_events.sql"] != before["snowflake/08_raw_events.sql"]
    assert renamed["snowflake/14_artifacts.sql"] == before["snowflake/14_artifacts.sql"]


def test_every_file_ends_with_its_version_in_a_comment_on_its_object() -> None:
    last = {one.file: one for one in statements("snowflake", EVERYTHING)}
    for one in last.values():
        assert re.search(rf"(^COMMENT ON \w|SET\nCOMMENT = ).*\[{one.version}\]'$", one.sql, re.DOTALL), one


def test_the_contract_has_the_same_columns_on_both_warehouses() -> None:
    assert contract("duckdb") == COLUMNS
    snowflake = contract("snowflake")
    assert snowflake.pop("events_live") == snowflake["events"]
    assert {name: list(columns) for name, columns in snowflake.items()} == {
        name: list(columns) for name, columns in COLUMNS.items()
    }


@pytest.mark.parametrize("name", sorted(contract("snowflake")))
def test_every_column_of_the_contract_is_declared_with_a_comment(name: str) -> None:
    (created,) = [
        sql
        for one, sql in zip(statements("snowflake"), sql_of(SnowflakeNames()), strict=True)
        if one.object == name and sql.startswith("CREATE")
    ]
    columns = re.findall(r'^    "?(\w+)"?(?: [A-Z_ ]+?)? COMMENT\s+\'', created, re.MULTILINE)
    assert [column.lower() for column in columns] == list(contract("snowflake")[name])


READABLE = ["VIEW EVENTS_LIVE", "DYNAMIC TABLE EVENTS", "VIEW INSIGHT_ATOMS", "VIEW CONTEXT_CACHE", "VIEW ARTIFACTS"]


def test_the_roles_get_these_privileges_and_no_others() -> None:
    def place(kind_and_name: str) -> str:
        kind, _, name = kind_and_name.rpartition(" ")
        return f'{kind} "D"."S".{name}'

    granted = {sql for sql in sql_of(OWN) if sql.startswith("GRANT ")}
    assert granted == {
        'GRANT ROLE "R" TO ROLE "L"',
        'GRANT USAGE ON WAREHOUSE "W" TO ROLE "R"',
        'GRANT USAGE ON DATABASE "D" TO ROLE "R"',
        'GRANT USAGE ON SCHEMA "D"."S" TO ROLE "R"',
        *(f'GRANT SELECT ON {place(view)} TO ROLE "R"' for view in READABLE),
        f'GRANT USAGE ON {place("FILE FORMAT _NDJSON")} TO ROLE "L"',
        *(f'GRANT {right} ON {place("STAGE _BATCHES")} TO ROLE "L"' for right in ("READ", "WRITE")),
        *(f'GRANT SELECT, INSERT ON {place(f"TABLE {name}")} TO ROLE "L"' for name in ("RAW_EVENTS", "_INGEST_IDS")),
    }


def test_what_is_there_is_never_replaced_where_data_or_grants_would_be_lost() -> None:
    replaced = [sql for sql in sql_of(EVERYTHING) if "OR REPLACE" in sql]
    assert len(replaced) == len(READABLE)
    assert all(re.match(r"CREATE OR REPLACE (VIEW|DYNAMIC TABLE) ", sql) for sql in replaced)
    assert all("\nCOPY GRANTS\nAS\n" in sql for sql in replaced), "what the owner granted to others would be lost"
    others = [sql for sql in sql_of(EVERYTHING) if sql.startswith("CREATE") and sql not in replaced]
    assert all(" IF NOT EXISTS " in sql for sql in others)


def test_without_a_connection_everything_is_pending() -> None:
    todo = pending(None, "snowflake", EVERYTHING)
    assert todo == statements("snowflake", EVERYTHING)
    assert {one.reason for one in todo} == {"absent"}


@pytest.mark.parametrize("dialect", ["duckdb", "snowflake"])
def test_the_rendered_script_holds_every_statement_in_order(dialect: str) -> None:
    script = render(dialect, EVERYTHING)
    place = 0
    for one in statements(dialect, EVERYTHING):
        place = script.index(f"{one.sql};\n", place)
    # Snowflake's command line would take these for variables of its own.
    assert re.search(r"&|<%|\{\{", script) is None
