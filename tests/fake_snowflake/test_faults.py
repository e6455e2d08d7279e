import time
from pathlib import Path
from typing import Literal

import pytest
from snowflake.connector.errors import DatabaseError
from tests.fake_snowflake.client import Client, write_lines
from tests.fake_snowflake.conftest import Connect
from tests.fake_snowflake.control import FakeSnowflake, FaultKind

INSERT = "INSERT INTO t VALUES (1)"


@pytest.fixture(autouse=True)
def table(client: Client, fake_snowflake: FakeSnowflake) -> None:
    client.rows("CREATE TABLE t (a INT)")
    fake_snowflake.forget()


def rows(fake: FakeSnowflake) -> int:
    count: int = fake.sql('SELECT count(*) FROM "DB"."S"."T"')[0][0]
    return count


@pytest.mark.parametrize("kind", ["429", "503", "reset"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_statement_sent_again_is_done_once(
    client: Client, fake_snowflake: FakeSnowflake, kind: FaultKind, when: Literal["before", "after"]
) -> None:
    fake_snowflake.fault("insert", kind, when=when)
    assert client.count(INSERT) == 1
    assert rows(fake_snowflake) == 1
    assert fake_snowflake.requests() == [INSERT, INSERT]
    (statement,) = fake_snowflake.statements()
    assert statement.attempts == (2 if when == "after" else 1)
    assert fake_snowflake.faults_left() == 0


@pytest.mark.parametrize(("when", "done"), [("before", 0), ("after", 1)])
def test_an_error_on_order_comes_before_or_after_the_work(
    client: Client, fake_snowflake: FakeSnowflake, when: Literal["before", "after"], done: int
) -> None:
    fake_snowflake.fault("INSERT", "error", when=when, code=625, message="Statement 'x' has locked table 'T'.")
    assert client.fails(INSERT) == 625
    assert rows(fake_snowflake) == done
    assert client.count(INSERT) == 1


def test_a_fault_befalls_as_many_requests_as_it_says(client: Client, fake_snowflake: FakeSnowflake) -> None:
    fake_snowflake.fault("INSERT", "error", times=2, code=604)
    assert [client.fails(INSERT), client.fails(INSERT), client.count(INSERT)] == [604, 604, 1]


def test_a_stalled_statement_can_run_out_of_time(client: Client, fake_snowflake: FakeSnowflake) -> None:
    fake_snowflake.fault("INSERT", "stall", seconds=50)
    assert client.fails(INSERT, parameters={"STATEMENT_TIMEOUT_IN_SECONDS": 1}) == 630
    assert rows(fake_snowflake) == 0


def test_a_reply_can_be_late(client: Client, fake_snowflake: FakeSnowflake) -> None:
    fake_snowflake.fault("INSERT", "stall", when="after", seconds=0.5)
    began = time.monotonic()
    assert client.count(INSERT) == 1
    assert time.monotonic() - began > 0.5


def test_an_expired_token_is_renewed_in_a_transaction(client: Client, fake_snowflake: FakeSnowflake) -> None:
    client.rows("BEGIN")
    client.rows(INSERT)
    fake_snowflake.fault("COMMIT", "expired")
    client.rows("COMMIT")
    assert rows(fake_snowflake) == 1


def test_a_session_that_is_gone_has_rolled_back(client: Client, fake_snowflake: FakeSnowflake) -> None:
    client.rows("BEGIN")
    client.rows(INSERT)
    fake_snowflake.fault("COMMIT", "gone")
    assert client.fails("COMMIT") == 390111
    assert rows(fake_snowflake) == 0


def test_a_login_can_be_refused(connect: Connect, fake_snowflake: FakeSnowflake) -> None:
    fake_snowflake.fault("LOGIN", "wrong_password")
    with pytest.raises(DatabaseError) as refused:
        connect()
    assert refused.value.errno == 390100
    assert connect().value("SELECT 1") == 1


@pytest.mark.parametrize("kind", ["503", "reset"])
def test_an_upload_can_fail(client: Client, fake_snowflake: FakeSnowflake, kind: FaultKind, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.ndjson.gz", [{"a": 1}])
    fake_snowflake.fault("^UPLOAD", kind)
    assert client.put(file, "@files") == "UPLOADED"
    uploads = [request for request in fake_snowflake.requests() if request.startswith("UPLOAD")]
    assert len(uploads) == 2


def test_clear_makes_everything_new(client: Client, connect: Connect, fake_snowflake: FakeSnowflake) -> None:
    client.rows("BEGIN")
    client.rows(INSERT)
    fake_snowflake.fault("SELECT", "503", times=100)
    fake_snowflake.clear()
    assert (fake_snowflake.sessions(), fake_snowflake.statements(), fake_snowflake.faults_left()) == (0, [], 0)
    assert client.fails("SELECT 1") == 390111
    assert connect().fails("USE DATABASE db") in {2003, 2043}
