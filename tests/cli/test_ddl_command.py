"""snowledger ddl: the schema of the warehouse, through the real command."""

from __future__ import annotations

import json
import stat

import duckdb
import pytest
from tests.cli.cli_process import Cli
from tests.fake_snowflake.control import FakeSnowflake

from snowledger_ddl import SnowflakeNames, render, statements


def applied_events(cli: Cli) -> list[dict[str, object]]:
    """Features of the events cdesk.schema_applied that wait in the queue."""
    lines = [line for segment in cli.spool.sealed_segments() for line in segment.path.read_bytes().splitlines()]
    events = [json.loads(line) for line in lines]
    assert {event["customer"] for event in events} <= {"snowledger"}
    return [event["feature_json"] for event in events if event["activity"] == "cdesk.schema_applied"]


def test_a_new_file_is_planned_applied_verified_and_then_up_to_date(cli: Cli) -> None:
    count = len(statements("duckdb"))
    for arguments in (["plan"], ["apply", "--dry-run"]):
        planned = cli.run("ddl", *arguments).stdout
        assert planned.startswith("duckdb/01_activities.sql  absent\n    CREATE SCHEMA IF NOT EXISTS activities\n")
        assert planned.endswith(f"{count} statements would run\n")
    assert not cli.home.exists()
    assert "events: absent\n" in cli.run("ddl", "verify", code=1).stdout

    assert cli.run("ddl", "apply").stdout.endswith(f"duckdb/07_artifacts.sql  absent\n{count} statements ran\n")
    assert stat.S_IMODE((cli.home / "warehouse.duckdb").stat().st_mode) == 0o600
    assert cli.run("ddl", "verify").stdout == "every object and column is there, with its type\n"
    assert cli.run("ddl", "plan").stdout == "up to date, nothing would run\n"
    assert cli.run("ddl", "apply").stdout == "up to date, nothing to do\n"
    versions = {one.object: one.version for one in statements("duckdb") if one.object != "activities"}
    assert applied_events(cli) == [{"warehouse": "duckdb", "objects": versions}]


def test_the_uploader_tells_what_it_applied_to_a_new_file(cli: Cli) -> None:
    cli.log(1)
    cli.run("upload", "--once")
    with duckdb.connect(cli.home / "warehouse.duckdb", read_only=True) as connection:
        found = connection.execute(
            "SELECT feature_json FROM activities.events WHERE activity = 'cdesk.schema_applied'"
        ).fetchall()
    versions = {one.object: one.version for one in statements("duckdb") if one.object != "activities"}
    assert [json.loads(features) for (features,) in found] == [{"warehouse": "duckdb", "objects": versions}]


def test_a_file_that_another_program_has_is_an_error_in_one_line(cli: Cli) -> None:
    cli.run("ddl", "apply")
    with duckdb.connect(cli.home / "warehouse.duckdb"):
        errors = cli.run("ddl", "verify", code=1).stderr
    assert errors.count("\n") == 1
    assert "lets go when it is idle" in errors


def test_render_prints_what_apply_runs_and_connects_to_nothing(cli: Cli) -> None:
    assert cli.run("ddl", "render").stdout == render("duckdb")
    rendered = cli.run(
        "ddl",
        "render",
        "--warehouse",
        "snowflake",
        SNOW_CONNECTION="no_such_connection",
        SNOWLEDGER_SNOWFLAKE_DATABASE="audit",
        SNOWLEDGER_SNOWFLAKE_LOADER_USER="uploader",
        SNOWLEDGER_SNOWFLAKE_SEARCH_OPTIMIZATION="true",
    ).stdout
    names = SnowflakeNames(database="AUDIT", loader_user="UPLOADER", search_optimization=True)
    assert rendered == render("snowflake", names)


def test_without_a_connection_the_plan_is_that_of_an_empty_account(cli: Cli) -> None:
    done = cli.run("ddl", "plan", "--warehouse", "snowflake")
    assert done.stdout.endswith(f"{len(statements('snowflake'))} statements would run\n")
    assert "SNOW_CONNECTION" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "error"),
    [
        (["apply"], {}, "no connection to Snowflake is named; set SNOW_CONNECTION"),
        (["verify"], {}, "no connection to Snowflake is named; set SNOW_CONNECTION"),
        (["plan", "--snow-connection", "nope"], {}, "'nope' not found"),
        (["plan"], {"SNOWLEDGER_SNOWFLAKE_SCHEMA": 'a"b'}, "SNOWLEDGER_SNOWFLAKE_SCHEMA: 'a\"b' is not accepted"),
        (["render"], {"SNOWLEDGER_SNOWFLAKE_LOADER_ROLE": "1"}, "'1' is not accepted; accepted: letters, digits"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told_in_one_line(
    cli: Cli, arguments: list[str], variables: dict[str, str], error: str
) -> None:
    errors = cli.run("ddl", *arguments, code=3, SNOWLEDGER_WAREHOUSE="snowflake", **variables).stderr
    assert error in errors
    assert errors.count("\n") == 1


def test_a_line_of_connections_toml_that_is_wrong_is_not_printed(cli: Cli) -> None:
    folder = cli.folder / "snow"
    folder.mkdir()
    path = folder / "connections.toml"
    path.write_text('[fake]\naccount = "fake"\npassword = "canary\n', encoding="utf-8")
    path.chmod(0o600)
    arguments = ["plan", "--warehouse", "snowflake", "--snow-connection", "fake"]
    errors = cli.run("ddl", *arguments, code=1, SNOWFLAKE_HOME=str(folder)).stderr
    assert "cannot connect to Snowflake with connection 'fake': " in errors
    assert "line 3" in errors
    assert "canary" not in errors
    assert errors.count("\n") == 1


def test_snowflake_goes_through_the_same_four(cli: Cli, fake_snowflake: FakeSnowflake) -> None:
    fake_snowflake.write_connections_toml(cli.folder / "snow")
    cli.variables |= {
        "SNOWFLAKE_HOME": str(cli.folder / "snow"),
        "SNOW_CONNECTION": "fake",
        "SNOWLEDGER_WAREHOUSE": "snowflake",
    }
    every = statements("snowflake")
    assert cli.run("ddl", "plan").stdout.endswith(f"{len(every)} statements would run\n")

    # The database stays, what came after it is made by the next call.
    message = "insufficient privileges (token=canary)\nCREATE SCHEMA canary"
    fake_snowflake.fault("CREATE SCHEMA", "error", code=3001, message=message)
    errors = cli.run("ddl", "apply", code=1).stderr
    assert 'snowflake/05_schema.sql: CREATE SCHEMA IF NOT EXISTS "CLAUDE_LOGS"."ACTIVITIES"' in errors
    assert "insufficient privileges" in errors
    assert "log in with a role that may" in errors
    assert "run snowledger ddl apply again" in errors
    assert "canary" not in errors
    assert errors.count("\n") == 1
    fake_snowflake.fault("^SHOW", "error", code=603, message="an internal error\ncanary")
    errors = cli.run("ddl", "plan", code=1).stderr
    assert errors.startswith("snowledger: cannot read what Snowflake holds: an internal error [000603]; nothing was")
    assert "canary" not in errors
    assert errors.count("\n") == 1
    resumed = cli.run("ddl", "apply").stdout
    assert resumed.startswith("snowflake/05_schema.sql  absent\n")
    assert cli.run("ddl", "verify").stdout == "every object and column is there, with its type\n"
    assert cli.run("ddl", "apply").stdout == "up to date, nothing to do\n"

    first, second = applied_events(cli)
    assert first["warehouse"] == second["warehouse"] == "snowflake"
    assert {**first["objects"], **second["objects"]} == {one.name: one.version for one in every}  # type: ignore[dict-item]
    assert {one.query_tag[:6] for one in fake_snowflake.statements() if one.query_tag} == {"cdesk_"}

    logins = {request for request in fake_snowflake.requests() if request.startswith("LOGIN")}
    assert logins == {"LOGIN loader SECONDARY ROLES NONE"}

    fake_snowflake.fault("LOGIN", "wrong_password")
    errors = cli.run("ddl", "plan", code=1).stderr
    assert errors.startswith("snowledger: cannot connect to Snowflake with connection 'fake': ")
    assert "secret" not in errors
