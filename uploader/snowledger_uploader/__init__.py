"""The uploader: the only process that talks to the warehouse, one for each spool.

It lists sealed segments, verifies every line, makes one batch of many small segments, loads it in one transaction,
confirms the receipt, and deletes the segments. Exactly once follows from three things: a batch is loaded whole or
not at all; ids that ``_ingest_ids`` holds are not inserted again; segments go only after the receipt is confirmed.

Beside that it runs the queries that servers and the command line ask for with tickets (``state.db``). A query has a
connection of its own to the same DuckDB instance, so neither waits for the other or is disturbed by its errors.
"""

from ._artifacts import Artifacts
from ._back_end import check_warehouse
from ._batch import FormedBatch, content_id, form_batch
from ._breaker import Breaker
from ._budget import Budget
from ._config import UploaderConfig
from ._contexts import Contexts
from ._deliver import Delivery
from ._drain import Drain, DrainedBatch
from ._duckdb import DuckDBWarehouse
from ._errors import (
    AuthenticationNeededError,
    BatchTooLargeError,
    LockLostError,
    MonitorError,
    QueryFailedError,
    RowsRejectedError,
    UploaderError,
    UploadStoppedError,
    WarehouseRefusedError,
    WarehouseUnavailableError,
)
from ._limits import QueryLimits
from ._own_events import OwnEvents
from ._queries import QueryRunner
from ._receipt import receipt_id
from ._run import run
from ._snowflake import SnowflakeConfig, SnowflakeWarehouse
from ._snowflake._errors import redacted
from ._warehouse import Batch, Query, QueryAnswer, Receipt, Warehouse

__all__ = [
    "Artifacts",
    "AuthenticationNeededError",
    "Batch",
    "BatchTooLargeError",
    "Breaker",
    "Budget",
    "Contexts",
    "Delivery",
    "Drain",
    "DrainedBatch",
    "DuckDBWarehouse",
    "FormedBatch",
    "LockLostError",
    "MonitorError",
    "OwnEvents",
    "Query",
    "QueryAnswer",
    "QueryFailedError",
    "QueryLimits",
    "QueryRunner",
    "Receipt",
    "RowsRejectedError",
    "SnowflakeConfig",
    "SnowflakeWarehouse",
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
    "redacted",
    "run",
]
