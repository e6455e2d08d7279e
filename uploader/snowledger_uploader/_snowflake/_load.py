"""The statements that load a batch, seven whatever its size.

The file goes to the stage and from there into a temporary table, which nobody else sees and which is empty whatever
happened before. Then one transaction inserts the ids that ``_INGEST_IDS`` does not hold, and their events.

Somebody may end that transaction meanwhile, and Snowflake need not say so: what follows is then in another one, which
it begins by itself and where nothing of the batch is any more (see ``Session.connect``). So what each statement finds
is compared with what the batch has, and the receipt goes in only with its own id.

Column and object names are the contract's (``snowledger_ddl``); database and schema are the session's. Values are
bound. What is pasted into a statement is hex.
"""

from __future__ import annotations

import glob
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from snowledger_queue import timestamp
from snowledger_uploader._errors import UploaderError, WarehouseUnavailableError
from snowledger_uploader._receipt import read_receipt, receipt_event, receipt_id
from snowledger_uploader._warehouse import Batch, Receipt

from ._errors import row_error
from ._session import STATEMENT_S
from ._unfinished import begin

if TYPE_CHECKING:
    from pathlib import Path

    from snowledger_queue import Origin

    from ._session import Session

# The connector takes the name for a pattern and looks for it in the folder that goes with the statement, so the
# statement, which Snowflake keeps in its history, does not tell where this machine keeps its files.
# What is there under that name is overwritten: an upload that broke off, or was damaged, would be in the way for ever.
_PUT = "PUT 'file://{name}' @_BATCHES/{folder} AUTO_COMPRESS = FALSE SOURCE_COMPRESSION = GZIP OVERWRITE = TRUE"
_LAND = "CREATE OR REPLACE TEMPORARY TABLE _LANDING (payload VARIANT)"
# The format is written out: were a named one altered, good events would be rejected.
_COPY = """
COPY INTO _LANDING FROM @_BATCHES/{folder}/ FILES = ('{name}')
FILE_FORMAT = (TYPE = JSON COMPRESSION = GZIP ALLOW_DUPLICATE = TRUE) ON_ERROR = ABORT_STATEMENT
"""
_INSERT_IDS = """
INSERT INTO _INGEST_IDS (activity_id, _batch_id)
WITH landed AS (
    SELECT DISTINCT payload:activity_id::VARCHAR AS activity_id FROM _LANDING
),
fresh AS (
    SELECT landed.activity_id
    FROM landed LEFT JOIN _INGEST_IDS AS known ON landed.activity_id = known.activity_id
    WHERE known.activity_id IS NULL
)
SELECT activity_id, ? FROM fresh
UNION ALL
SELECT DISTINCT ?, ? FROM fresh
"""
# The batch's rows in _INGEST_IDS are those of this transaction: had an earlier one loaded the batch, no id were new.
# The receipt is an event like the others, so it is not there without them.
# CURRENT_TIMESTAMP is one for the whole statement; the session's time zone is UTC.
_INSERT_EVENTS = """
INSERT INTO RAW_EVENTS (activity_id, payload, _batch_id, _loaded_at)
WITH landed AS (
    SELECT payload:activity_id::VARCHAR AS activity_id, payload, payload:ts::VARCHAR AS ts FROM _LANDING
    UNION ALL
    SELECT ?, PARSE_JSON(?), ''
),
first_of_each AS (
    SELECT landed.activity_id, landed.payload
    FROM landed INNER JOIN _INGEST_IDS AS ids ON landed.activity_id = ids.activity_id AND ids._batch_id = ?
    QUALIFY ROW_NUMBER() OVER (PARTITION BY landed.activity_id ORDER BY landed.ts) = 1
)
SELECT activity_id, payload, ?, CAST(CURRENT_TIMESTAMP() AS TIMESTAMP_NTZ) FROM first_of_each
"""
_COUNT_LANDED = "SELECT COUNT(*) FROM _LANDING"
# Only the last day's partitions are read. A batch whose receipt is older is loaded again and finds all its ids known.
_FIND_RECEIPT = """
SELECT TO_JSON(payload) FROM RAW_EVENTS
WHERE activity_id = ? AND _batch_id = ?
AND _loaded_at > DATEADD(day, -1, CAST(CURRENT_TIMESTAMP() AS TIMESTAMP_NTZ))
"""

UPLINK = 2_000_000
"""Bytes of events a second, which are a tenth to a quarter when compressed: the slowest line that must do has 4 Mbit/s.
For the time limit of an upload, which with those of the other statements is less than a watchdog's (``Warehouse``)."""

LATE_S = 600.0
"""From the INSERT of events until COMMIT, by the clock on the wall, which goes on while a laptop sleeps. A batch that
becomes visible later may be overlooked (``_changes.OVERLAP``), less some minutes for COMMIT itself."""

_ENDED = "Snowflake: the load's transaction was ended from outside; nothing loaded"

_ROWS_LOADED = 3
"""The place of ``rows_loaded`` in what COPY answers for a file."""


async def load(session: Session, batch: Batch, file: Path, folder: str, origin: Origin) -> Receipt:
    """Load a batch from its gzip file through a folder of the stage. Raises as ``Warehouse.load``.

    After an error the session must be closed, which rolls back.
    """
    names = {"name": file.name, "folder": folder}
    limit_s = STATEMENT_S + batch.size / UPLINK
    await session.run(_PUT.format_map(names), limit_s=limit_s, settings={"cwd": glob.escape(str(file.parent))})
    await session.run(_LAND)  # before the transaction, for a table's creation ends one
    await session.run(begin(folder))
    copied = (await session.run(_COPY.format_map(names), explain=row_error)).rows
    loaded = copied[0][_ROWS_LOADED] if copied and len(copied[0]) > _ROWS_LOADED else 0
    if int(loaded) != batch.events:
        message = f"Snowflake: {loaded} of {batch.events} verified lines were read; nothing loaded"
        raise WarehouseUnavailableError(message)
    receipt = receipt_id(batch.batch_id)
    ids = await session.run(_INSERT_IDS, [batch.batch_id, receipt, batch.batch_id])
    if ids.rowcount < 0:
        # Not to be taken for "nothing is new": the segments would be deleted.
        message = "Snowflake does not say how many ids were inserted; nothing loaded"
        raise UploaderError(message)
    inserted = max(0, ids.rowcount - 1)  # without the receipt's
    loaded_at = timestamp(datetime.now(UTC))
    if inserted:
        event = receipt_event(batch, inserted, loaded_at, origin)
        line = event.line.decode().rstrip("\n")
        values = [event.activity_id, line, batch.batch_id, batch.batch_id]
        began = time.time()
        rows = (await session.run(_INSERT_EVENTS, values)).rowcount
        if not rows:
            raise WarehouseUnavailableError(_ENDED)
        if rows != ids.rowcount:
            message = f"Snowflake: {rows} events for {ids.rowcount} ids; nothing loaded"
            raise UploaderError(message)
        if time.time() - began > LATE_S:
            message = "the load was held up for too long; nothing loaded"
            raise WarehouseUnavailableError(message)
    elif (await session.run(_COUNT_LANDED)).rows != [(batch.events,)]:
        # "Nothing is new" is why the segments are deleted, so it must be said of all the events.
        raise WarehouseUnavailableError(_ENDED)
    await session.run("COMMIT" if inserted else "ROLLBACK")
    return Receipt(batch.batch_id, batch.events, inserted, loaded_at)


async def find_receipt(session: Session, batch_id: str) -> Receipt | None:
    """Look the receipt of a batch up. Raises as ``Warehouse.find_receipt``."""
    rows = (await session.run(_FIND_RECEIPT, [receipt_id(batch_id), batch_id])).rows
    return read_receipt(rows[0][0]) if rows else None
