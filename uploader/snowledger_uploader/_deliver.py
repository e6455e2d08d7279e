"""Delivering one batch: retry, and look for the receipt after a lost reply."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from ._breaker import CLOSED, Breaker
from ._errors import UploaderError, UploadStoppedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._warehouse import Batch, Receipt, Warehouse

log = logging.getLogger(__name__)


class Delivery:
    """Brings batches into the warehouse, whatever it takes, until told to stop."""

    def __init__(
        self,
        warehouse: Warehouse,
        stop: anyio.Event,
        on_problem: Callable[[UploaderError], None],
        breaker: Breaker | None = None,
    ) -> None:
        """``on_problem`` hears for what a batch is waiting, at every failure; ``breaker`` spaces the attempts."""
        self._warehouse = warehouse
        self._stop = stop
        self._on_problem = on_problem
        self._breaker = breaker or Breaker()

    async def deliver(self, batch: Batch, give_up_after_s: float | None, *, own: bool = False) -> Receipt:
        """Load the batch and confirm its receipt; retry what may pass by itself, for ever or for a time.

        ``own`` says that all its events are the uploader's own.

        Raises:
            RowsRejectedError: a row is bad; nothing was loaded.
            UploadStoppedError: told to stop while waiting.
            UploaderError: one that no retry can mend, or the last one when the time was over.
        """
        started = anyio.current_time()
        attempt = 0
        failure: UploaderError | None = None
        while True:
            while (wait := self._breaker.wait_s()) > 0:
                if failure is None:  # somebody else's
                    failure = self._breaker.away()
                    self._on_problem(failure)
                if give_up_after_s is not None and anyio.current_time() + wait - started > give_up_after_s:
                    raise failure
                with anyio.move_on_after(wait):
                    await self._stop.wait()
                if self._stop.is_set():
                    message = f"stopped before batch {batch.batch_id[:8]} was confirmed"
                    raise UploadStoppedError(message)
            try:
                with self._breaker.attempt(own=own, load=True):
                    return await self._attempt(batch, retried=attempt > 0)
            except UploaderError as error:
                await self._warehouse.close()
                if not error.transient:
                    raise
                failure = error
            attempt += 1
            self._on_problem(failure)
            wait = self._breaker.wait_s()
            # Of an outage the log has the beginning and the end.
            level = logging.WARNING if self._breaker.state == CLOSED else logging.DEBUG
            log.log(level, "batch %.8s waits %.2f s (attempt %d): %s", batch.batch_id, wait, attempt, failure)

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
