"""A warehouse that tells when one of the drain loop's calls has ended: the progress that feeds the watchdog."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from snowledger_queue import Changes

    from ._warehouse import Batch, Query, QueryAnswer, Receipt, Warehouse


class WatchedWarehouse:
    """Another warehouse's loading side, watched. Queries are not: they must not hide a load that hangs."""

    def __init__(self, warehouse: Warehouse, progressed: Callable[[], None]) -> None:
        """``progressed`` is called after each call, also after one that failed: nothing hangs then."""
        self._warehouse = warehouse
        self._progressed = progressed
        self.batch_bytes = warehouse.batch_bytes
        self.batch_files = warehouse.batch_files

    async def open(self) -> None:
        """See ``Warehouse.open``."""
        with self._step():
            await self._warehouse.open()

    async def load(self, batch: Batch) -> Receipt:
        """See ``Warehouse.load``."""
        with self._step():
            return await self._warehouse.load(batch)

    async def find_receipt(self, batch_id: str) -> Receipt | None:
        """See ``Warehouse.find_receipt``."""
        with self._step():
            return await self._warehouse.find_receipt(batch_id)

    async def changes(self, cursor: str | None) -> Changes:
        """See ``Warehouse.changes``."""
        with self._step():
            return await self._warehouse.changes(cursor)

    async def query(self, request: Query, watch: Callable[[int, int], None]) -> QueryAnswer:
        """See ``Warehouse.query``."""
        return await self._warehouse.query(request, watch)

    async def rest(self, *, over: bool = False) -> None:
        """See ``Warehouse.rest``."""
        with self._step():
            await self._warehouse.rest(over=over)

    async def close(self) -> None:
        """See ``Warehouse.close``."""
        await self._warehouse.close()

    @contextmanager
    def _step(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._progressed()
