"""Queries on Snowflake: each runs asynchronously in a session of its own, and its result goes to disk as it comes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import duckdb
from anyio import from_thread, to_thread

from snowledger_ddl import TemplateError, bound_parameters, executable, positional, reserved_parameters
from snowledger_uploader._errors import QueryFailedError, UploaderError, WarehouseUnavailableError
from snowledger_uploader._result_file import ResultFile, assembly, written

from ._arrow import label, readable, type_name
from ._errors import query_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from snowflake.connector.errors import Error

    from snowledger_uploader._warehouse import Query, QueryAnswer

    from ._columns import Column
    from ._login import Login
    from ._session import Part, Session

FIRST_PAUSE_S, MAX_PAUSE_S = 0.05, 0.25
"""Between looks at a running statement, each a request to Snowflake. The longest still tells progress several times a
second."""

PATIENCE_S = 2.0
"""For the rows that are being written when the query is cancelled; then the fetch of more is given up, too."""

_DIALECT = "snowflake"

_NOT_BEGUN = 6
"""The connector's error when Snowflake begins no asynchronous query, whatever the reason, which it does not pass on."""


class Queries:
    """Runs queries, with sessions that it keeps for the next ones. They hold no warehouse awake."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._idle: list[Session] = []

    async def run(self, request: Query, watch: Callable[[int, int], None]) -> QueryAnswer:
        """Implements ``Warehouse.query``."""
        statement, values = await to_thread.run_sync(_statement, request)
        session, explain = await self._session(request.tag)
        good = False
        try:
            query_id = await session.submit(statement, values, limit_s=request.limit_s, explain=explain)
            answer = await _answered(session, query_id, request, watch)
            good = True
            return answer
        finally:
            # After an error nobody knows whether the session is any good.
            if good:
                self._idle.append(session)
            else:
                await session.close()

    async def close(self) -> None:
        """Log the idle sessions out. Never raises."""
        while self._idle:
            await self._idle.pop().close()

    async def _session(self, tag: str) -> tuple[Session, Callable[[Error], UploaderError]]:
        """A session, and what an error means with which it begins no query."""
        if not self._idle:
            return await self._login.session(tag, explain=query_error), _refused
        session = self._idle.pop()
        session.tag = tag
        return session, _gone


def _gone(error: Error) -> UploaderError:
    if error.errno == _NOT_BEGUN:
        return WarehouseUnavailableError("the warehouse cannot answer now: the session is gone")
    return query_error(error)


def _refused(error: Error) -> UploaderError:
    if error.errno == _NOT_BEGUN:
        return QueryFailedError("the warehouse cannot answer this query, and did not begin it")
    return query_error(error)


async def _answered(session: Session, query_id: str, request: Query, watch: Callable[[int, int], None]) -> QueryAnswer:
    try:
        pause = FIRST_PAUSE_S
        while not await session.finished(query_id, explain=query_error):
            watch(0, 0)
            await anyio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_S)
        columns, parts = await session.result(query_id, explain=query_error)
    except BaseException:
        await session.abort(query_id)
        raise
    result = ResultFile(request)
    return await written(result, partial(_kept, request, columns, parts, result), watch, PATIENCE_S)


def _statement(request: Query) -> tuple[str, list[Any]]:
    """The statement and what is bound. Blocking. Raises ``QueryFailedError``."""
    try:
        # One row more than may be kept, to know whether there are more.
        text = executable(request.template, _DIALECT, row_cap=request.row_cap + 1)
    except TemplateError as error:
        raise QueryFailedError("; ".join(problem.reason for problem in error.problems)) from error
    bound = bound_parameters(request.template, request.parameters)
    bound |= reserved_parameters(
        request.template, customer=request.customer, customers=request.customers, now=request.now, dialect=_DIALECT
    )
    return positional(text, bound)


def _kept(request: Query, columns: tuple[Column, ...], parts: Sequence[Part], result: ResultFile) -> QueryAnswer:
    """Write the rows. For a worker thread. Raises ``WarehouseUnavailableError``, also when it was interrupted."""
    try:
        request.folder.mkdir(parents=True)
        with assembly(request.folder) as connection:
            for part in parts:
                rows = connection.from_arrow(from_thread.run(part))
                rows.create_view("answer")
                plain = ", ".join(
                    f"{readable(column, _quoted(name), str(kind))} AS {_quoted(label(column))}"
                    for column, name, kind in zip(columns, rows.columns, rows.types, strict=True)
                )
                result.copy(connection, f"SELECT {plain} FROM answer", {})  # noqa: S608 - names of its columns, quoted
                if result.full:
                    break
            answer = result.finish(connection)
            result.close()
    except (duckdb.Error, UploaderError) as error:
        # Not its words: they may quote a value.
        raise WarehouseUnavailableError("the result could not be read to its end") from error
    except OSError as error:
        message = f"the result cannot be written: {error.strerror or type(error).__name__}"
        raise WarehouseUnavailableError(message) from error
    # The file's names: of two columns with one name, DuckDB gives the second another.
    names = [name for name, _ in answer.columns]
    return answer._replace(columns=tuple(zip(names, map(type_name, columns), strict=True)))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
