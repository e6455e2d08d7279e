"""One query on a DuckDB file, beside the loader."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import duckdb

from snowledger_ddl import TemplateError, bound_parameters, executable, reserved_parameters
from snowledger_uploader._errors import QueryFailedError, WarehouseRefusedError, WarehouseUnavailableError
from snowledger_uploader._result_file import ResultFile, written

from ._errors import public, query_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from snowledger_uploader._warehouse import Query, QueryAnswer

    from ._file import DuckDBFile


async def run_query(file: DuckDBFile, request: Query, watch: Callable[[int, int], None]) -> QueryAnswer:
    """Implements ``Warehouse.query``."""
    result = ResultFile(request)
    return await written(result, partial(_answered, file, request, result), watch)


def _answered(file: DuckDBFile, request: Query, result: ResultFile) -> QueryAnswer:
    """Run it to its end. Blocking.

    Raises:
        QueryFailedError: the warehouse's reason.
        WarehouseRefusedError, WarehouseUnavailableError: as ``Warehouse`` says; also when it was interrupted.
    """
    try:
        return _asked(file, request, result)
    except duckdb.Error as error:
        file.failed(error)
        raise query_error(error, file.path, shared=file.shared) from error
    except (WarehouseRefusedError, WarehouseUnavailableError) as error:
        # The first line: what follows is the statement that failed.
        raise type(error)(public(str(error).splitlines()[0])) from error
    except OSError as error:
        message = f"the result cannot be written: {error.strerror or type(error).__name__}"
        raise WarehouseUnavailableError(message) from error


def _asked(file: DuckDBFile, request: Query, result: ResultFile) -> QueryAnswer:
    try:
        # One row more than may be kept, to know whether there are more.
        statement = executable(request.template, row_cap=request.row_cap + 1)
    except TemplateError as error:
        raise QueryFailedError(public("; ".join(problem.reason for problem in error.problems))) from error
    bound = bound_parameters(request.template, request.parameters)
    bound |= reserved_parameters(
        request.template, customer=request.customer, customers=request.customers, now=request.now
    )
    request.folder.mkdir(parents=True)
    cursor = file.cursor()
    try:
        cursor.execute("SET SESSION preserve_insertion_order = true; SET SESSION TimeZone = 'UTC'")
        # One statement, so the customer sees one state of the warehouse; and it can change nothing in it.
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        try:
            result.copy(cursor, statement, bound)
        finally:
            cursor.rollback()
        return result.finish(cursor)
    finally:
        result.close()
        file.give_back(cursor)
