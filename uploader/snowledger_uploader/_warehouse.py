"""What the drain loop and the query runner ask of a warehouse; DuckDB and Snowflake implement it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from snowledger_ddl import Template
    from snowledger_queue import Changes

SAMPLE_ROWS = 10
"""What an answer shows of a result; the rest is in its file."""


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


def batch_tag(batch_id: str) -> str:
    """By which logs and the warehouse's history name a batch: ``cdesk_`` and the first 8 digits of its id."""
    return f"cdesk_{batch_id[:8]}"


class Receipt(NamedTuple):
    """The warehouse's word that a batch is in, exactly once."""

    batch_id: str
    events: int
    """Lines in the batch."""
    inserted: int
    """Of them, those that the warehouse did not hold before."""
    loaded_at: str
    """UTC, in the form of an event's ``ts``."""


class Query(NamedTuple):
    """A query to run."""

    template: Template
    parameters: Mapping[str, object]
    """As ``snowledger_ddl.checked_parameters`` gives them."""
    customer: str
    customers: Sequence[str]
    now: datetime
    tag: str
    """By which the warehouse's history names it: ``cdesk_`` and eight hex digits."""
    limit_s: float
    """For the warehouse, should nobody be left to cancel it."""
    row_cap: int
    """Rows that may be kept."""
    byte_cap: int
    """Bytes that the file may have."""
    folder: Path
    """For the result and all that is needed on the way; it is not there yet, and whoever asks deletes it."""


class QueryAnswer(NamedTuple):
    """The result of a query, as much of it as the caps allow."""

    path: Path
    """One Parquet file in the query's folder."""
    columns: tuple[tuple[str, str], ...]
    """Names and the warehouse's types."""
    sample: Sequence[Sequence[object]]
    """The first ``SAMPLE_ROWS`` rows. A time without zone is UTC."""
    rows: int
    bytes: int
    truncated: bool
    """Whether a cap cut something off."""


class Warehouse(Protocol):
    """A back end. One task loads; beside it any number may ask queries.

    Every call may be cancelled and then has no effect or a whole one.

    Calls raise ``WarehouseUnavailableError`` (worth a retry), ``WarehouseRefusedError`` (not without an operator)
    or, from ``load`` only, ``RowsRejectedError`` and ``BatchTooLargeError``.

    Under systemd, a call of the loading side that takes longer than ``WatchdogSec`` (45 min) is taken for hung: the
    limits of all statements of one call must add up to less.
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

    async def changes(self, cursor: str | None) -> Changes:
        """What the warehouse has got since the cursor, cut down to what contexts need; from its start without one.

        Also from its start, with ``reset``, when the cursor's place is not in this warehouse. At most one batch or some
        250,000 rows; with ``more`` the next call goes on at the new cursor. Rows of an odd form may be left out.
        """
        ...

    async def query(self, request: Query, watch: Callable[[int, int], None]) -> QueryAnswer:
        """Run a query and keep its result in a file, in the query's own order; the warehouse need not be ``open``.

        ``watch`` hears rows and bytes so far, several times a second. Cancelling it stops the statement.

        Raises:
            QueryFailedError: it cannot be answered.
            WarehouseUnavailableError, WarehouseRefusedError: with a message that any customer may read.
        """
        ...

    async def rest(self, *, over: bool = False) -> None:
        """Hear that there is no work now, again and again while that is so; ``open`` precedes what follows.

        An embedded file is let go at once; a session is kept for a while, and what is to be tidied up waits for that,
        or for ``over``: this process has no more work. Never raises.
        """
        ...

    async def close(self) -> None:
        """End the loading connection, so that others can use the warehouse; ``open`` may follow. Never raises."""
        ...
