"""Delivering one batch: retry, and look for the receipt after a lost reply."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import anyio

from ._errors import UploaderError, UploadStoppedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._warehouse import Batch, Receipt, Warehouse

log = logging.getLogger(__name__)

FIRST_WAIT_S = 0.05
"""A DuckDB file is typically held by another program for one short query."""

MAX_WAIT_S = 15.0
"""A warehouse that comes back is noticed within this time."""


class Delivery:
    """Brings batches into the warehouse, whatever it takes, until told to stop."""

    def __init__(self, warehouse: Warehouse, stop: anyio.Event, on_problem: Callable[[UploaderError], None]) -> None:
        """``on_problem`` hears for what a batch is waiting, at every failed attempt."""
        self._warehouse = warehouse
        self._stop = stop
        self._on_problem = on_problem

    async def deliver(self, batch: Batch, give_up_after_s: float | None) -> Receipt:
        """Load the batch and confirm its receipt; retry what may pass by itself, for ever or for a time.

        Raises:
            RowsRejectedError: a row is bad; nothing was loaded.
            UploadStoppedError: told to stop while waiting.
            UploaderError: one that no retry can mend, or the last one when the time was over.
        """
        started = anyio.current_time()
        attempt = 0
        while True:
            try:
                return await self._attempt(batch, retried=attempt > 0)
            except UploaderError as error:
                await self._warehouse.close()
                if not error.transient:
                    raise
                attempt += 1
                # The exponent is bounded: after some hours 2**attempt would no longer fit into a float.
                wait = min(FIRST_WAIT_S * 2 ** min(attempt, 20), MAX_WAIT_S) * random.uniform(0.5, 1)  # noqa: S311
                if give_up_after_s is not None and anyio.current_time() + wait - started > give_up_after_s:
                    raise
                self._on_problem(error)
                log.warning("batch %.8s waits %.2f s (attempt %d): %s", batch.batch_id, wait, attempt, error)
            with anyio.move_on_after(wait):
                await self._stop.wait()
            if self._stop.is_set():
                message = f"stopped before batch {batch.batch_id[:8]} was confirmed"
                raise UploadStoppedError(message)

    async def _attempt(self, batch: Batch, *, retried: bool) -> Receipt:
        await self._warehouse.open()
        if retried:
            # The reply to the first attempt may have been lost after its commit.
            receipt = await self._warehouse.find_receipt(batch.batch_id)
            if receipt is not None:
                return receipt
        receipt = await self._warehouse.load(batch)
        # A batch without a new event leaves no receipt: all its ids are in the warehouse by an earlier one's.
        if receipt.inserted and await self._warehouse.find_receipt(batch.batch_id) is None:
            message = f"the warehouse has no receipt of batch {batch.batch_id[:8]} after loading it"
            raise UploaderError(message)
        return receipt
