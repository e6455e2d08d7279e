import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from snowflake.connector import aio
from snowflake.connector.constants import QueryStatus
from snowflake.connector.errors import DatabaseError
from tests.fake_snowflake.client import Client, write_lines
from tests.fake_snowflake.conftest import Connect
from tests.fake_snowflake.control import FakeSnowflake

# Longer than any test waits: it ends because it is stopped.
LONG = "SELECT SYSTEM$WAIT(50)"
HARD = "SELECT COUNT(*) FROM t AS a, t AS b, t AS c WHERE a.n + b.n + c.n = 0"


@pytest.fixture
async def connection(client: Client, fake_snowflake: FakeSnowflake) -> AsyncIterator[aio.Connection]:
    client.rows("CREATE TABLE t (n INT)")
    client.rows("INSERT INTO t SELECT SEQ4() FROM TABLE(GENERATOR(ROWCOUNT => 20000))")
    fake_snowflake.forget()
    options = fake_snowflake.connection_options(database="db", schema="s", paramstyle="qmark")
    async with await aio.connect(**options) as connection:
        yield connection


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def started(fake: FakeSnowflake) -> None:
    await until(lambda: bool(fake.statements()))


async def test_an_asynchronous_query_is_watched_and_fetched(
    connection: aio.Connection, fake_snowflake: FakeSnowflake
) -> None:
    cursor = connection.cursor()
    await cursor.execute_async("SELECT SYSTEM$WAIT(300, 'MILLISECONDS')")
    query_id = str(cursor.sfqid)
    assert await connection.get_query_status(query_id) is QueryStatus.RUNNING
    await cursor.get_results_from_sfqid(query_id)
    assert len(await cursor.fetchall()) == 1
    assert await connection.get_query_status(query_id) is QueryStatus.SUCCESS
    (statement,) = fake_snowflake.statements()
    assert (statement.asynchronous, statement.query_id) == (True, query_id)


async def test_a_client_asks_again_for_what_takes_long(
    connection: aio.Connection, fake_snowflake: FakeSnowflake
) -> None:
    fake_snowflake.patience(0.1)
    cursor = connection.cursor()
    await cursor.execute("SELECT SYSTEM$WAIT(500, 'MILLISECONDS')")
    assert len(await cursor.fetchall()) == 1
    assert len([request for request in fake_snowflake.requests() if request.startswith("RESULT")]) > 1


@pytest.mark.parametrize("sql", [LONG, HARD])
async def test_an_aborted_query_fails_with_snowflakes_code(
    connection: aio.Connection, fake_snowflake: FakeSnowflake, sql: str
) -> None:
    cursor = connection.cursor()
    await cursor.execute_async(sql)
    query_id = str(cursor.sfqid)
    assert await cursor.abort_query(query_id)
    await until(lambda: fake_snowflake.statements()[0].error == 604)
    assert await connection.get_query_status(query_id) is QueryStatus.FAILED_WITH_ERROR
    await cursor.execute("SELECT 1")
    assert await cursor.fetchall() == [(1,)]


@pytest.mark.parametrize("sql", [LONG, HARD])
async def test_cancelling_a_task_aborts_its_statement(
    connection: aio.Connection, fake_snowflake: FakeSnowflake, sql: str
) -> None:
    task = asyncio.ensure_future(connection.cursor().execute(sql))
    await started(fake_snowflake)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: fake_snowflake.statements()[0].error == 604)
    assert "ABORT" in fake_snowflake.requests()


async def test_an_abort_leaves_the_transaction_as_it_was(
    connection: aio.Connection, fake_snowflake: FakeSnowflake, client: Client, tmp_path: Path
) -> None:
    client.put(write_lines(tmp_path / "a.ndjson.gz", [{"n": -1}]), "@files")
    cursor = connection.cursor()
    await cursor.execute("BEGIN")
    await cursor.execute("COPY INTO t FROM (SELECT $1:n::INT FROM @files) FILE_FORMAT = (TYPE = JSON)")
    await cursor.execute("INSERT INTO t VALUES (-1)")
    await cursor.execute_async(HARD)
    assert await cursor.abort_query(str(cursor.sfqid))
    await cursor.execute("COMMIT")
    assert fake_snowflake.sql('SELECT count(*) FROM "DB"."S"."T" WHERE "N" = -1') == [[2]]


@pytest.mark.parametrize("sql", [LONG, HARD])
async def test_a_statement_has_its_time_limit(connection: aio.Connection, sql: str) -> None:
    with pytest.raises(DatabaseError) as failure:
        await connection.cursor().execute(sql, _statement_params={"STATEMENT_TIMEOUT_IN_SECONDS": 1})
    assert failure.value.errno == 630


async def test_a_session_does_one_statement_at_a_time(
    connection: aio.Connection, fake_snowflake: FakeSnowflake
) -> None:
    first, second = connection.cursor(), connection.cursor()
    await first.execute_async("SELECT SYSTEM$WAIT(300, 'MILLISECONDS')")
    await second.execute("SELECT 2")
    assert await connection.get_query_status(str(first.sfqid)) is QueryStatus.SUCCESS
    assert fake_snowflake.sessions() == 2


def test_sessions_do_not_wait_for_each_other(client: Client, connect: Connect) -> None:
    other = connect()
    with client.connection.cursor() as cursor:
        cursor.execute_async(LONG)
        assert other.value("SELECT 1") == 1
        assert other.value("SELECT SYSTEM$CANCEL_QUERY(?)".replace("?", f"'{cursor.sfqid}'")) == "query terminated."


def test_tags_are_recorded_by_session_and_by_statement(client: Client, fake_snowflake: FakeSnowflake) -> None:
    client.rows("ALTER SESSION SET QUERY_TAG = 'of the session', TIMEZONE = 'UTC'")
    client.rows("SELECT 1")
    client.rows("SELECT 2", parameters={"QUERY_TAG": "of the statement"})
    client.rows("ALTER SESSION UNSET QUERY_TAG")
    client.rows("SELECT 3")
    tags = [statement.query_tag for statement in fake_snowflake.statements()]
    assert tags == [None, "of the session", "of the statement", "of the session", None]
