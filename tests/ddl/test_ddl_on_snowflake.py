"""Applying the contract to the fake Snowflake, which commits each statement and keeps what one run leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import snowflake.connector
from tests.fake_snowflake.control import FakeSnowflake
from tests.thorough import THOROUGH

from snowledger_ddl import (
    Connection,
    DdlError,
    SnowflakeNames,
    Statement,
    applied_features,
    apply,
    pending,
    render,
    statements,
    verify,
)

NAMES = SnowflakeNames(database="D", schema="S", warehouse="W", loader_role="L", reader_role="R", loader_user="U")


@pytest.fixture
def cursor(fake_snowflake: FakeSnowflake) -> Iterator[Connection]:
    with closing(snowflake.connector.connect(**fake_snowflake.connection_options())) as connection:
        yield connection.cursor()


def sent(fake: FakeSnowflake) -> list[str]:
    """What was sent since `forget` and does more than read."""
    return [one.sql for one in fake.statements() if "SHOW " not in one.sql]


def test_an_empty_account_gets_everything_and_then_nothing_more(
    fake_snowflake: FakeSnowflake, cursor: Connection
) -> None:
    assert pending(cursor, "snowflake", NAMES) == statements("snowflake", NAMES)
    assert apply(cursor, "snowflake", NAMES) == statements("snowflake", NAMES)
    # Among them what the fake can only record: roles, grants, the warehouse, the user.
    assert sent(fake_snowflake) == [one.sql for one in statements("snowflake", NAMES)]
    assert verify(cursor, "snowflake", NAMES) == ()
    fake_snowflake.forget()
    assert apply(cursor, "snowflake", NAMES) == ()
    assert sent(fake_snowflake) == []


@pytest.mark.parametrize(
    "failing", statements("snowflake", NAMES)[:: 3 if THOROUGH else 15], ids=lambda statement: statement.file
)
def test_apply_stops_at_a_failure_and_the_next_one_goes_on(
    fake_snowflake: FakeSnowflake, cursor: Connection, failing: Statement
) -> None:
    every = statements("snowflake", NAMES)
    place = every.index(failing)
    ran: list[Statement] = []

    class Failing:
        """The cursor, until that statement."""

        def execute(self, sql: str, /) -> object:
            if sql == every[place].sql:
                return cursor.execute("SELECT * FROM no_such_table")
            return cursor.execute(sql)

    with pytest.raises(DdlError, match=every[place].file) as caught:
        apply(Failing(), "snowflake", NAMES, ran=ran.append)  # type: ignore[arg-type]
    assert caught.value.statement == every[place]
    assert ran == list(every[:place])
    fake_snowflake.forget()
    apply(cursor, "snowflake", NAMES)
    # A file that was not finished runs again; one that was does not.
    first = next(number for number, one in enumerate(every) if one.file == every[place].file)
    assert sent(fake_snowflake) == [one.sql for one in every[first:]]
    assert verify(cursor, "snowflake", NAMES) == ()


def test_what_was_dropped_or_made_by_another_version_comes_back(
    fake_snowflake: FakeSnowflake, cursor: Connection
) -> None:
    apply(cursor, "snowflake", NAMES)
    cursor.execute('DROP VIEW "D"."S".ARTIFACTS')
    cursor.execute("""COMMENT ON VIEW "D"."S".INSIGHT_ATOMS IS 'an older one'""")
    cursor.execute('ALTER TABLE "D"."S"._INGEST_IDS DROP COLUMN _batch_id')
    assert verify(cursor, "snowflake", NAMES) == (
        "insight_atoms: made by another version",
        "artifacts: absent",
        "_ingest_ids._batch_id: absent; it should be TEXT",
    )
    fake_snowflake.forget()
    done = {one.object for one in apply(cursor, "snowflake", NAMES)}
    assert done == {"insight_atoms", "artifacts"}


def test_another_reader_gets_its_grants_and_the_tables_stay(cursor: Connection) -> None:
    apply(cursor, "snowflake", NAMES)
    cursor.execute("""INSERT INTO "D"."S"._INGEST_IDS VALUES ('a', 'b')""")
    other = SnowflakeNames(
        database="D", schema="S", warehouse="W", loader_role="L", reader_role="OTHER", loader_user="U"
    )
    done = {one.object for one in apply(cursor, "snowflake", other)}
    assert {"OTHER", "W", "D", "S", "events"} < done
    assert done.isdisjoint({"L", "_ndjson", "_batches", "raw_events", "_ingest_ids"})
    rows = cursor.execute('SELECT * FROM "D"."S"._INGEST_IDS')
    assert rows is not None
    assert rows.fetchall() == [("a", "b")]


def test_the_rendered_script_does_what_apply_does(fake_snowflake: FakeSnowflake, cursor: Connection) -> None:
    with closing(snowflake.connector.connect(**fake_snowflake.connection_options())) as connection:
        # It splits the script as Snowflake's own command line does.
        connection.execute_string(render("snowflake", NAMES), remove_comments=True)
    assert pending(cursor, "snowflake", NAMES) == ()
    assert verify(cursor, "snowflake", NAMES) == ()


@pytest.mark.parametrize("code", [2003, 2043])
def test_what_may_not_be_seen_counts_as_absent(fake_snowflake: FakeSnowflake, cursor: Connection, code: int) -> None:
    fake_snowflake.fault("SHOW (?!ROLES|WAREHOUSES|USERS)", "error", times=20, code=code, message="does not exist")
    assert pending(cursor, "snowflake", NAMES) == statements("snowflake", NAMES)


def test_a_catalog_that_cannot_be_read_is_an_error(fake_snowflake: FakeSnowflake, cursor: Connection) -> None:
    fake_snowflake.fault("SHOW ROLES", "error", code=603, message="an internal error")
    with pytest.raises(DdlError, match=r"snowflake/applied\.sql: .*an internal error"):
        pending(cursor, "snowflake", NAMES)


def test_a_database_a_role_and_a_warehouse_may_have_one_name(cursor: Connection) -> None:
    names = SnowflakeNames(database="X", schema="S", warehouse="X", loader_role="X", reader_role="R")
    ran = apply(cursor, "snowflake", names)
    assert applied_features("snowflake", ran)["objects"] == {one.name: one.version for one in ran}
    assert pending(cursor, "snowflake", names) == ()
    cursor.execute("""COMMENT ON DATABASE "X" IS 'an older one'""")
    assert verify(cursor, "snowflake", names) == ("database: made by another version",)
