"""From nothing to an answer on Snowflake, with the real commands: on the fake always, on an account when asked for.

`make test-live CONNECTION=name` runs it on the account of that entry in connections.toml. It makes a schema of its own
and drops it. Database, warehouse and roles are those of the settings (SNOWLEDGER_SNOWFLAKE_…); it makes them where they
do not exist, and leaves them.
"""

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import snowflake.connector
from tests.acceptance.ledger import CONFIGURING, Ledger, wait_until
from tests.fake_snowflake.control import FakeSnowflake
from tests.uploader.uploader_samples import sample_lines

CONNECTION = "SNOWLEDGER_LIVE_CONNECTION"
"""Names the entry; without it no account is contacted."""

EVENTS = 2_000
LAG_S = 300.0
"""A dynamic table's first refresh may take longer than its lag."""

DATABASE_VARIABLE = "SNOWLEDGER_SNOWFLAKE_DATABASE"


@pytest.fixture
def on_the_fake(ledger: Ledger, fake_snowflake: FakeSnowflake, tmp_path: Path) -> Ledger:
    fake_snowflake.write_connections_toml(tmp_path / "snowflake")
    ledger.environment |= {"SNOWFLAKE_HOME": str(tmp_path / "snowflake"), "SNOW_CONNECTION": "fake"}
    return ledger


@pytest.fixture
def on_an_account(ledger: Ledger) -> Ledger:
    connection = os.environ.get(CONNECTION)
    if not connection:
        pytest.skip("contacts a Snowflake account only when asked to: make test-live CONNECTION=name")
    kept = {name: value for name, value in os.environ.items() if name.startswith("SNOWLEDGER_SNOWFLAKE_")}
    home = os.environ.get("SNOWFLAKE_HOME", str(Path("~/.snowflake").expanduser()))
    ledger.environment |= kept | {"SNOWFLAKE_HOME": home, "SNOW_CONNECTION": connection}
    return ledger


@pytest.fixture(params=["on_the_fake", "on_an_account"])
def account(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger whose warehouse is a schema that does not exist yet, and will not exist any more."""
    ledger: Ledger = request.getfixturevalue(request.param)
    schema = f"SNOWLEDGER_LIVE_{secrets.token_hex(4).upper()}"
    ledger.environment |= {"SNOWLEDGER_WAREHOUSE": "snowflake", "SNOWLEDGER_SNOWFLAKE_SCHEMA": schema}
    for name in [name for name in os.environ if name.startswith(CONFIGURING)]:
        monkeypatch.delenv(name)
    yield ledger
    database = ledger.environment.get(DATABASE_VARIABLE, "CLAUDE_LOGS")
    monkeypatch.setenv("SNOWFLAKE_HOME", ledger.environment["SNOWFLAKE_HOME"])
    with snowflake.connector.connect(
        connection_name=ledger.environment["SNOW_CONNECTION"], enable_server_session_keep_alive_auto_detection=False
    ) as connection:
        connection.cursor().execute(f'DROP SCHEMA IF EXISTS "{database}"."{schema}"')


@pytest.mark.timeout(600)  # an account's warehouse may have to wake up, and EVENTS to be filled
def test_events_travel_once_and_are_found_by_a_query(account: Ledger) -> None:
    file = account.folder / "events.ndjson"
    file.write_bytes(b"".join(sample_lines(EVENTS)))

    assert "CREATE" in account.run("ddl", "plan").stdout
    account.run("ddl", "apply")
    account.run("ddl", "verify")
    assert "up to date" in account.run("ddl", "apply").stdout

    account.run("import", str(file))
    loaded = account.run("upload", "--once").stdout
    assert f"{EVENTS:,} new" in loaded or f"{EVENTS + 1:,} new" in loaded  # with cdesk.schema_applied
    account.run("import", str(file))
    assert f"{EVENTS:,} duplicates" in account.run("upload", "--once").stdout
    assert not account.queued()
    assert "ok" in account.run("doctor").stdout

    # The dynamic table that templates read is a minute behind.
    wait_until(lambda: answered(account) == ("succeeded", 5), "the events in EVENTS", LAG_S)


def answered(account: Ledger) -> tuple[str, int]:
    ticket = account.run("query", "recent_events", "since=730d", "limit=5", "--no-wait").stdout.split()[-1]
    account.run("upload", "--once")
    found = json.loads(account.run("tickets", "show", ticket, "--json").stdout)
    return found["status"], found["row_count"]
