"""The one place that touches Snowflake's connector: a session and its statements.

A statement that is cancelled or takes too long is aborted in Snowflake too: the connector sends the abort when its task
is cancelled, and the session has a time limit of its own for when that does not arrive.
"""

from __future__ import annotations

import asyncio
import math
import os
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import anyio

from snowledger_uploader._errors import WarehouseUnavailableError

from ._columns import ArrowStream, Column
from ._errors import load_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence

    from snowflake.connector.aio import SnowflakeConnection
    from snowflake.connector.errors import Error

    from snowledger_uploader._errors import UploaderError

    from ._config import SnowflakeConfig

    Part = Callable[[], Coroutine[Any, Any, ArrowStream]]
    """Fetches a part of a result."""

T = TypeVar("T")

LOGIN_S = 30.0
"""For a login with its retries; one takes about a second. As long as a batch is tried."""

STATEMENT_S = 300.0
"""For a statement, unless its caller says otherwise: a COPY of 250 MB takes an XS warehouse about a minute, after some
seconds in which it resumes."""

CLOSE_S = 5.0
"""For the logout. When it does not arrive, Snowflake ends the session by itself and rolls back."""

ATTEMPTS = 3
"""Of one HTTP request, with pauses of some 250 ms, all with one request id, so Snowflake runs a statement once. Longer
trouble is for the caller, who looks for the receipt before it loads anything again."""


FETCH_ROWS = 2_000
"""Rows of a stream at a time: the connector makes them in the event loop's thread, which takes some milliseconds."""


class Result(NamedTuple):
    """What a statement gave."""

    rows: list[tuple[Any, ...]]
    rowcount: int
    """Rows that it returned, or that it changed; -1 when Snowflake does not say."""
    query_id: str


class Session:
    """One connection to Snowflake; one statement at a time.

    After an error or a cancellation in a transaction nobody knows how far it is: close the session, which rolls back.
    """

    def __init__(self, connection: SnowflakeConnection, tag: str) -> None:
        self._connection = connection
        self.tag = tag
        """The ``QUERY_TAG`` of the statements that follow, ``cdesk_`` and eight hex digits."""

    @classmethod
    async def connect(
        cls,
        config: SnowflakeConfig,
        tag: str,
        *,
        autocommit: bool = True,
        explain: Callable[[Error], UploaderError] = load_error,
    ) -> Session:
        """Log in. ``explain`` makes our error of the connector's.

        Without ``autocommit`` nothing is kept but by COMMIT, or by a statement that makes an object: when somebody ends
        a transaction, a change that follows it begins another one, instead of being kept alone.

        Raises:
            AuthenticationNeededError: the credentials are not accepted.
            WarehouseRefusedError: the connection's entry cannot be used.
            WarehouseUnavailableError: no answer in time.
        """
        from snowflake.connector import aio

        # Else it asks the metadata services of three clouds where it runs, for its maker's statistics alone: workload
        # identity has requests of its own.
        os.environ.setdefault("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")
        connection = aio.SnowflakeConnection(
            connection_name=config.connection,
            database=config.database,
            schema=config.schema,
            warehouse=config.warehouse,
            role=config.role,
            # What the user's other roles may do is not for the templates.
            secondary_roles="NONE",
            application="snowledger",
            paramstyle="qmark",
            autocommit=autocommit,
            timezone="UTC",
            session_parameters={
                "QUERY_TAG": tag,
                "STATEMENT_TIMEOUT_IN_SECONDS": math.ceil(STATEMENT_S),
                # Templates say that weeks begin on Monday, whatever the account says.
                "WEEK_START": 1,
                # What runs when this machine vanishes ends after five minutes.
                "ABORT_DETACHED_QUERY": True,
                "CLIENT_TELEMETRY_ENABLED": False,
            },
            login_timeout=math.ceil(LOGIN_S),
            retry_max_attempts=ATTEMPTS,
            put_get_max_attempts=ATTEMPTS,
            logout_total_timeout_seconds=math.ceil(CLOSE_S),
            logout_max_attempts=1,
            # Log out whatever runs.
            enable_server_session_keep_alive_auto_detection=False,
            server_session_keep_alive=False,
        )
        session = cls(connection, tag)
        try:
            await _bounded(connection.connect, LOGIN_S, explain)
        except BaseException:
            await session.close()
            raise
        return session

    @property
    def number(self) -> int:
        """By which SHOW TRANSACTIONS names it; not to be asked for after ``close``."""
        return self._connection.session_id

    async def run(
        self,
        sql: str,
        parameters: Sequence[object] = (),
        *,
        limit_s: float | None = None,
        settings: Mapping[str, object] = MappingProxyType({}),
        explain: Callable[[Error], UploaderError] = load_error,
    ) -> Result:
        """Execute one statement, with ``?`` for parameters, and fetch all its rows.

        Integers may be wrong in a result of hundreds of rows (see ``result``): have Snowflake send them as text.
        After ``limit_s``, usually ``STATEMENT_S``, it is aborted; more than that is for uploads alone. ``settings``
        hold for this statement. ``explain`` makes our error of the connector's.

        Raises:
            UploaderError: see ``_errors``.
            WarehouseUnavailableError: it took too long and was aborted.
        """
        cursor = self._connection.cursor()

        async def execute() -> Result:
            await cursor.execute(sql, parameters or None, _statement_params={"QUERY_TAG": self.tag, **settings})
            rows = await cursor.fetchall()
            return Result(rows, -1 if cursor.rowcount is None else cursor.rowcount, cursor.sfqid or "")

        try:
            return await _bounded(execute, limit_s or STATEMENT_S, explain)
        finally:
            cursor.close()

    async def stream(
        self, sql: str, parameters: Sequence[object] = (), *, limit_s: float = STATEMENT_S
    ) -> AsyncGenerator[list[tuple[Any, ...]], None]:
        """Execute one statement, and bring its rows ``FETCH_ROWS`` at a time, each within the limit. Raises as ``run``.

        Integers may be wrong, as in ``run``. Close the iterator when it is left before its end.
        """
        cursor = self._connection.cursor()

        async def execute() -> None:
            await cursor.execute(sql, parameters or None, _statement_params={"QUERY_TAG": self.tag})

        try:
            await _bounded(execute, limit_s, load_error)
            while rows := await _bounded(lambda: cursor.fetchmany(FETCH_ROWS), limit_s, load_error):
                yield rows
        finally:
            cursor.close()

    async def submit(
        self,
        sql: str,
        parameters: Sequence[object] = (),
        *,
        limit_s: float,
        explain: Callable[[Error], UploaderError] = load_error,
    ) -> str:
        """Start a statement and return its query id; Snowflake aborts it after ``limit_s``. Raises as ``run``."""
        cursor = self._connection.cursor()
        settings = {"QUERY_TAG": self.tag, "STATEMENT_TIMEOUT_IN_SECONDS": math.ceil(limit_s)}

        async def start() -> str:
            answer = await cursor.execute_async(sql, parameters or None, _statement_params=settings)
            return answer["queryId"] or ""

        try:
            return await _bounded(start, STATEMENT_S, explain)
        finally:
            cursor.close()

    async def finished(self, query_id: str, *, explain: Callable[[Error], UploaderError] = load_error) -> bool:
        """Whether a submitted statement has ended. Raises as ``run``, also what made it fail."""
        status = await _bounded(
            lambda: self._connection.get_query_status_throw_if_error(query_id), STATEMENT_S, explain
        )
        return not self._connection.is_still_running(status)

    async def result(
        self, query_id: str, *, explain: Callable[[Error], UploaderError] = load_error
    ) -> tuple[tuple[Column, ...], list[Part]]:
        """The columns of a finished statement, and what fetches its parts, one or more. Raises as ``run``.

        The parts are read one by one because the connector's stream of a whole result takes the first one's types for
        all: numbers of a later part, in wider integers, would be wrong.
        """
        from snowflake.connector.constants import FIELD_ID_TO_NAME  # type: ignore[attr-defined]

        cursor = self._connection.cursor()

        async def parts() -> list[Callable[[], Coroutine[Any, Any, int]]]:
            await cursor.query_result(query_id)
            # The public ways to Arrow need pyarrow, which is thirty times as large as the connector. A result without
            # rows has no part, but a stream that tells its types.
            batches = await cursor.get_result_batches()
            if not batches:
                return [cursor._result_set.get_arrow_stream_ptr]  # noqa: SLF001
            return [batch._take_arrow_stream_ptr for batch in batches]  # noqa: SLF001

        async def fetched(part: Callable[[], Coroutine[Any, Any, int]]) -> ArrowStream:
            return ArrowStream(await _bounded(part, STATEMENT_S, explain))

        found = await _bounded(parts, STATEMENT_S, explain)
        columns = tuple(
            Column(one.name, FIELD_ID_TO_NAME[one.type_code], one.precision or 0, one.scale or 0)
            for one in cursor.description or ()
        )
        return columns, [partial(fetched, part) for part in found]

    async def abort(self, query_id: str) -> None:
        """Stop a submitted statement. Never raises; may be called when cancelled."""
        with anyio.CancelScope(shield=True), suppress(Exception):
            cursor = self._connection.cursor()
            await _bounded(lambda: cursor.abort_query(query_id), CLOSE_S, load_error)

    async def close(self) -> None:
        """Log out, which rolls back what is open. Never raises; may be called when cancelled."""
        with anyio.CancelScope(shield=True), suppress(Exception):
            await _bounded(self._connection.close, 2 * CLOSE_S, load_error)


async def _bounded(
    work: Callable[[], Coroutine[Any, Any, T]], limit_s: float, explain: Callable[[Error], UploaderError]
) -> T:
    """Await the connector's work, in a task of its own.

    anyio's cancellation strikes at every await until the scope ends, so also at those with which the connector frees
    what a statement holds. A task is cancelled once.
    """
    from snowflake.connector.errors import Error

    task = asyncio.ensure_future(work())
    try:
        done, _ = await asyncio.wait((task,), timeout=limit_s)
        if not done:
            message = f"Snowflake: no answer within {limit_s:g} s"
            raise WarehouseUnavailableError(message)
        return task.result()
    except Error as error:
        raise explain(error) from error
    finally:
        if not task.done():
            task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait((task,), timeout=CLOSE_S)
        if task.done() and not task.cancelled():
            task.exception()  # seen, or asyncio would complain of it
