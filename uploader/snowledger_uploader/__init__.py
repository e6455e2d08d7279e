"""The uploader: the only process that talks to the warehouse, one for each spool.

It lists sealed segments, verifies every line, makes one batch of many small segments, loads it in one transaction,
confirms the receipt, and deletes the segments. Exactly once follows from three things: a batch is loaded whole or
not at all; ids that ``_ingest_ids`` holds are not inserted again; segments go only after the receipt is confirmed.
"""

from ._batch import FormedBatch, content_id, form_batch
from ._deliver import Delivery
from ._drain import Drain, DrainedBatch
from ._duckdb import DuckDBWarehouse
from ._errors import (
    BatchTooLargeError,
    LockLostError,
    RowsRejectedError,
    UploaderError,
    UploadStoppedError,
    WarehouseRefusedError,
    WarehouseUnavailableError,
)
from ._receipt import receipt_id
from ._run import UploaderConfig, check_warehouse, run
from ._warehouse import Batch, Receipt, Warehouse

__all__ = [
    "Batch",
    "BatchTooLargeError",
    "Delivery",
    "Drain",
    "DrainedBatch",
    "DuckDBWarehouse",
    "FormedBatch",
    "LockLostError",
    "Receipt",
    "RowsRejectedError",
    "UploadStoppedError",
    "UploaderConfig",
    "UploaderError",
    "Warehouse",
    "WarehouseRefusedError",
    "WarehouseUnavailableError",
    "check_warehouse",
    "content_id",
    "form_batch",
    "receipt_id",
    "run",
]
