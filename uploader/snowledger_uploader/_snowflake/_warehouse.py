"""Snowflake as a warehouse: a session that is opened for work and closed when there has been none for a while."""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from anyio import to_thread

from snowledger_uploader._errors import BatchTooLargeError, UploaderError, WarehouseUnavailableError
from snowledger_uploader._warehouse import batch_tag

from . import _changes, _load
from ._files import compressed
from ._login import Login
from ._query import Queries
from ._stage import stage_folder
from ._unfinished import abort_unfinished

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from snowledger_queue import Changes, Origin, Spool
    from snowledger_uploader._warehouse import Batch, Query, QueryAnswer, Receipt

    from ._config import SnowflakeConfig
    from ._session import Session

T = TypeVar("T")

BATCH_BYTES = 1024 * 1024 * 1024
"""Snowflake loads files of 100 to 250 MB best, and gzip makes a quarter to a tenth of events."""

BATCH_FILES = 10_000
"""Segments become one file, so this bounds no statement, only a list of paths."""

IDLE_S = 300.0
"""How long an unused session is kept: it costs nothing there, and a login costs a batch about a second."""

FORGET_FILES = 100
"""Loaded files that may stay in the stage: 25 GB at most. Fewer stay until the session ends, so that no batch has a
statement for it."""

REMOVE_S = 30.0
"""For their removal, which nothing depends on but holds up a load: Snowflake removes some hundred files in a second."""

TAG = "cdesk_00000000"
"""Of statements that are for no batch."""

_NEEDED = ("RAW_EVENTS", "_INGEST_IDS")
"""Tables that the loader writes to. Their description needs no running warehouse."""


class SnowflakeWarehouse:
    """Implements ``Warehouse`` on Snowflake."""

    batch_bytes = BATCH_BYTES
    batch_files = BATCH_FILES

    def __init__(self, config: SnowflakeConfig, spool: Spool, origin: Origin) -> None:
        self._login = Login(config)
        self._queries = Queries(self._login)
        self._spool = spool
        self._origin = origin
        self._folder = ""
        self._session: Session | None = None
        self._loader: int | None = None
        """The number of the session that loads, or was the last to."""
        self._staged = FORGET_FILES
        """Files that may be in the stage, all of batches that are loaded or will be uploaded again. An earlier process
        may have left some."""
        self._checked = False
        self._used_at = 0.0

    async def open(self) -> None:
        """Log in if need be, and the first time see whether the contract is there. Disturbs no uploader."""
        if self._session is not None:
            return
        if not self._folder:
            self._folder = await to_thread.run_sync(stage_folder, self._spool)
        self._session = await self._login.session(TAG, autocommit=False)
        self._used_at = time.monotonic()
        if not self._checked:
            await self._call(self._check)
            self._checked = True

    async def load(self, batch: Batch) -> Receipt:
        """See ``Warehouse.load``."""
        if self._staged >= FORGET_FILES:
            await self._clear_stage()
            await self.open()  # should that have ended the session
        await self._call(self._take_over)
        try:
            file = await to_thread.run_sync(compressed, batch, self._spool.work)
        except OSError as error:
            message = f"cannot compress a batch in {self._spool.work}: {error.strerror or error}"
            if error.errno == errno.ENOSPC:
                raise BatchTooLargeError(message) from error
            raise WarehouseUnavailableError(message) from error
        try:
            self._staged += 1
            return await self._call(
                partial(_load.load, batch=batch, file=file, folder=self._folder, origin=self._origin), batch.batch_id
            )
        finally:
            file.unlink(missing_ok=True)

    async def find_receipt(self, batch_id: str) -> Receipt | None:
        """See ``Warehouse.find_receipt``."""
        await self._call(self._take_over)
        return await self._call(partial(_load.find_receipt, batch_id=batch_id), batch_id)

    async def changes(self, cursor: str | None) -> Changes:
        """See ``Warehouse.changes``."""
        return await self._call(partial(_changes.changes, cursor=cursor))

    async def query(self, request: Query, watch: Callable[[int, int], None]) -> QueryAnswer:
        """See ``Warehouse.query``."""
        try:
            return await self._queries.run(request, watch)
        finally:
            self._used_at = time.monotonic()

    async def rest(self, *, over: bool = False) -> None:
        """See ``Warehouse.rest``: keep the session for a while, then remove what is staged and log out."""
        over = over or time.monotonic() - self._used_at >= IDLE_S
        if self._session is not None and (self._staged >= FORGET_FILES or (over and self._staged)):
            await self._clear_stage()
        if over:
            await self.close()
            await self._queries.close()

    async def close(self) -> None:
        """Log out, which rolls back what is open."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _call(self, work: Callable[[Session], Awaitable[T]], batch_id: str | None = None) -> T:
        """Do some work with the session, which is closed when that did not go well: it may be in a transaction."""
        if self._session is None:
            raise WarehouseUnavailableError("there is no session with Snowflake")
        self._session.tag = TAG if batch_id is None else batch_tag(batch_id)
        try:
            return await work(self._session)
        except BaseException:
            await self.close()
            raise
        finally:
            self._used_at = time.monotonic()

    async def _check(self, session: Session) -> None:
        for table in _NEEDED:
            await session.run(f"DESCRIBE TABLE {table}")

    async def _take_over(self, session: Session) -> None:
        """End what an earlier session left, before anything depends on its not being committed later."""
        if session.number != self._loader:
            await abort_unfinished(session, self._folder, self._loader)
            self._loader = session.number

    async def _remove(self, session: Session) -> None:
        await session.run(f"REMOVE @_BATCHES/{self._folder}/", limit_s=REMOVE_S)

    async def _clear_stage(self) -> None:
        """Remove the files that are loaded; what fails is tried again with the next ones, or after a restart."""
        self._staged = 0
        with suppress(UploaderError):
            await self._call(self._remove)
