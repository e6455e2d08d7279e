"""What the drain loop asks of a warehouse; DuckDB implements it, Snowflake will."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class Batch(NamedTuple):
    """Verified NDJSON files that are loaded in one transaction."""

    batch_id: str
    """SHA-256 (64 hex digits) of the content: the same content always has the same id."""
    files: tuple[Path, ...]
    """Every line is an intact event (``snowledger_queue``, invariant 2)."""
    events: int
    """Lines in the files."""
    size: int
    """Bytes in the files."""


class Receipt(NamedTuple):
    """The warehouse's word that a batch is in, exactly once."""

    batch_id: str
    events: int
    """Lines in the batch."""
    inserted: int
    """Of them, those that the warehouse did not hold before."""
    loaded_at: str
    """UTC, in the form of an event's ``ts``."""


class Warehouse(Protocol):
    """A back end. One task uses it at a time; every call may be cancelled and then has no effect or a whole one.

    Calls raise ``WarehouseUnavailableError`` (worth a retry), ``WarehouseRefusedError`` (not without an operator)
    or, from ``load`` only, ``RowsRejectedError`` and ``BatchTooLargeError``.
    """

    batch_bytes: int
    """How large a batch should become before it is loaded, when there is a backlog."""
    batch_files: int
    """How many files a batch may have."""

    async def open(self) -> None:
        """Get ready for a burst of work: connect if need be, and bring the schema up to date."""
        ...

    async def load(self, batch: Batch) -> Receipt:
        """Load the batch in one transaction.

        That is: the events that ``_ingest_ids`` does not hold (of several with one id, the earliest ``ts``), their
        ids, and the receipt event ``cdesk.batch_loaded``. A batch without a new event writes nothing, not even a
        receipt.
        """
        ...

    async def find_receipt(self, batch_id: str) -> Receipt | None:
        """Look the receipt of a batch up, after a reply was lost or to confirm a load."""
        ...

    async def close(self) -> None:
        """Let go of the warehouse, so that others can use it; ``open`` may follow. Never raises."""
        ...
