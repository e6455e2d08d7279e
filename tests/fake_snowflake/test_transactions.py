import pytest
from tests.fake_snowflake.client import Client
from tests.fake_snowflake.conftest import Connect
from tests.fake_snowflake.control import FakeSnowflake

COMMITTED = 'SELECT count(*) FROM "DB"."S"."T"'


@pytest.fixture(autouse=True)
def table(client: Client) -> None:
    client.rows("CREATE TABLE t (a INT PRIMARY KEY)")


def committed(fake: FakeSnowflake) -> int:
    count: int = fake.sql(COMMITTED)[0][0]
    return count


def test_a_commit_keeps_what_a_rollback_would_undo(client: Client, fake_snowflake: FakeSnowflake) -> None:
    for end, rows in (("ROLLBACK", 0), ("COMMIT", 1)):
        client.rows("BEGIN")
        client.rows("INSERT INTO t VALUES (1)")
        assert committed(fake_snowflake) == 0
        client.rows(end)
        assert committed(fake_snowflake) == rows


def test_without_begin_every_statement_commits(client: Client, fake_snowflake: FakeSnowflake) -> None:
    client.rows("INSERT INTO t VALUES (1)")
    client.rows("ROLLBACK")
    assert committed(fake_snowflake) == 1


def test_an_error_undoes_its_statement_and_not_the_transaction(client: Client, fake_snowflake: FakeSnowflake) -> None:
    client.rows("BEGIN")
    client.rows("INSERT INTO t VALUES (1), (2)")
    assert client.fails("INSERT INTO t SELECT IFF(a = 1, '3', 'x')::INT FROM t") == 100035
    assert client.rows("SELECT a FROM t ORDER BY a") == [(1,), (2,)]
    client.rows("INSERT INTO t VALUES (4)")
    client.rows("COMMIT")
    assert committed(fake_snowflake) == 3


@pytest.mark.parametrize(
    "ddl", ["CREATE TABLE u (a INT)", "CREATE TEMPORARY TABLE u (a INT)", "GRANT ROLE x TO ROLE y"]
)
def test_ddl_commits_the_open_transaction(client: Client, fake_snowflake: FakeSnowflake, ddl: str) -> None:
    client.rows("BEGIN")
    client.rows("INSERT INTO t VALUES (1)")
    client.rows(ddl)
    assert committed(fake_snowflake) == 1
    client.rows("INSERT INTO t VALUES (2)")
    client.rows("ROLLBACK")
    assert committed(fake_snowflake) == 2


def test_closing_the_session_rolls_back(client: Client, fake_snowflake: FakeSnowflake) -> None:
    client.rows("BEGIN")
    client.rows("INSERT INTO t VALUES (1)")
    client.close()
    assert committed(fake_snowflake) == 0


def test_with_autocommit_off_the_first_change_begins_a_transaction(
    client: Client, fake_snowflake: FakeSnowflake
) -> None:
    client.rows("ALTER SESSION SET AUTOCOMMIT = FALSE")
    client.rows("INSERT INTO t VALUES (1)")
    assert committed(fake_snowflake) == 0
    client.rows("COMMIT")
    assert committed(fake_snowflake) == 1


def test_with_autocommit_off_what_follows_an_ended_transaction_is_in_a_new_one(
    connect: Connect, fake_snowflake: FakeSnowflake
) -> None:
    client, other = connect(database="db", schema="s", autocommit=False), connect()
    client.rows("CREATE TEMPORARY TABLE own (a INT)")
    client.rows("BEGIN TRANSACTION NAME load_1")
    client.rows("INSERT INTO own VALUES (1)")
    ((number, *_),) = other.rows("SHOW TRANSACTIONS")
    other.rows(f"SELECT SYSTEM$ABORT_TRANSACTION({number})")
    assert client.rows("SELECT a FROM own") == []
    client.rows("INSERT INTO t VALUES (1)")
    ((_, _, _, name, *_),) = other.rows("SHOW TRANSACTIONS")
    assert name != "load_1"
    assert committed(fake_snowflake) == 0
    client.rows("CREATE TEMPORARY TABLE another (a INT)")
    assert committed(fake_snowflake) == 1
    client.rows("INSERT INTO t VALUES (2)")
    client.close()
    assert committed(fake_snowflake) == 1


def test_primary_keys_are_not_enforced(client: Client, connect: Connect) -> None:
    other = connect(database="db", schema="s")
    client.rows("BEGIN")
    other.rows("BEGIN")
    for session in (client, other):
        session.rows("INSERT INTO t VALUES (7)")
    for session in (client, other):
        session.rows("COMMIT")
    assert client.rows("SELECT a FROM t") == [(7,), (7,)]
    assert client.fails("INSERT INTO t VALUES (NULL)") == 100072


def test_a_temporary_table_is_its_sessions_own(client: Client, connect: Connect) -> None:
    other = connect(database="db", schema="s")
    client.rows('CREATE TEMPORARY TABLE "DB"."S".own (a INT)')
    client.rows("INSERT INTO db.s.own VALUES (1)")
    other.rows("CREATE TEMPORARY TABLE own (a INT)")
    assert client.rows("SELECT a FROM own") == [(1,)]
    assert other.rows("SELECT a FROM own") == []


def test_a_temporary_table_hides_another_until_it_is_dropped(client: Client) -> None:
    client.rows("CREATE SCHEMA db.elsewhere")
    client.rows("CREATE TEMPORARY TABLE db.s.t (b INT)")
    assert client.fails("SELECT a FROM db.s.t") == 904
    client.rows("DROP TABLE db.s.t")
    assert client.rows("SELECT a FROM db.s.t") == []


def test_another_session_of_the_user_sees_an_open_transaction_and_ends_it(
    client: Client, connect: Connect, fake_snowflake: FakeSnowflake
) -> None:
    other = connect()
    client.rows("BEGIN TRANSACTION NAME load_1")
    client.rows("INSERT INTO t VALUES (1)")
    ((number, user, _session, name, *_),) = other.rows("SHOW TRANSACTIONS")
    assert (user, name) == ("LOADER", "load_1")
    other.rows(f"SELECT SYSTEM$ABORT_TRANSACTION({number})")
    assert other.rows("SHOW TRANSACTIONS") == []
    client.rows("COMMIT")
    assert committed(fake_snowflake) == 0
    assert other.fails(f"SELECT SYSTEM$ABORT_TRANSACTION({number})") == 625
