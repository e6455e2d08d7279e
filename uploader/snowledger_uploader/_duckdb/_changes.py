"""What a DuckDB file has got since a cursor: the counts and the lines that contexts are made of.

A cursor is the ``_loaded_at`` and the ``_batch_id`` of the last batch that was read, or empty for an empty file.
``_loaded_at`` grows from batch to batch, so zone maps find what came later whatever the file holds.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from snowledger_queue import INSIGHT_ACTIVITY, OPERATIONAL_CUSTOMER, RECENT_EVENTS, Changes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

CHUNK_ROWS = 250_000
"""Rows of one call, and the rest of the batch in which they end. A rebuild then takes some 0.2 s a call, and
what is read of the rows fits into memory."""

CHUNK_BYTES = 64 * 1024 * 1024
"""Lines of one call, unless a single batch has more; a batch is at most twice as large."""

COUNTED_DAYS = 8
"""Events are counted for seven days, in whole hours; a day more, for clocks differ."""

SLICE_LINES = 5_000
"""Lines fetched at a time: they are text in DuckDB, text in Python and bytes, but should not be all three at once."""

START = datetime.min  # noqa: DTZ901 - the column is UTC without a zone
"""Before everything that the file holds."""

# The names are read in one parse of the JSON. Time and id are cut out by position where the line has the form that
# snowledger writes (snowledger_queue, invariant 2); another row's are read from its JSON, or it has no place and is
# left out. Not left out here, for a filter on what was parsed would parse it again.
_READ_CHUNK = """
CREATE TEMP TABLE chunk AS
SELECT row_number, names[1] AS customer, names[2] AS activity, place
FROM (
    SELECT
        rowid AS row_number,
        json_extract_string(payload, ['$.customer', '$.activity']) AS names,
        CASE
            WHEN payload LIKE $form THEN substr(payload, 57, 26) || substr(payload, 17, 32)
            WHEN json_type(payload, ['$.activity_id', '$.ts', '$.customer', '$.activity', '$.feature_json'])
                = ['VARCHAR', 'VARCHAR', 'VARCHAR', 'VARCHAR', 'OBJECT']
                AND (payload ->> '$.ts') LIKE '____-__-__T__:__:__%Z'
                THEN (payload ->> '$.ts') || (payload ->> '$.activity_id')
        END AS place
    FROM activities.raw_events
    WHERE _loaded_at > $low AND _loaded_at <= $high
)
"""
_FORM = f'{{"activity_id":"{"_" * 32}","ts":"____-__-__T__:__:__.______Z","customer":"%'
_COUNT = """
SELECT customer, left(place, 13) AS hour, activity, count(*)
FROM chunk
WHERE place >= $since AND customer <> $operational AND activity IS NOT NULL
GROUP BY ALL
"""
_PICK_LINES = """
CREATE TEMP TABLE picked AS
SELECT row_number FROM chunk WHERE place IS NOT NULL AND activity = $insight AND customer <> $operational
UNION ALL
SELECT unnest(arg_max(row_number, place, $recent)) FROM chunk
WHERE place IS NOT NULL AND activity <> $insight AND customer <> $operational
GROUP BY customer
"""
_LINES = """
FROM activities.raw_events
WHERE _loaded_at > $low AND _loaded_at <= $high AND rowid IN (SELECT row_number FROM picked)
"""
_BATCH_OF = "SELECT _batch_id FROM activities.raw_events WHERE _loaded_at = ? LIMIT 1"
_HAS_BATCH = "SELECT 1 FROM activities.raw_events WHERE _loaded_at = ? AND _batch_id = ? LIMIT 1"
_LAST = "SELECT count(*), max(_loaded_at) FROM activities.raw_events WHERE _loaded_at > ?"
_NTH = "SELECT _loaded_at FROM activities.raw_events WHERE _loaded_at > ? ORDER BY _loaded_at LIMIT 1 OFFSET ?"


def changes(connection: duckdb.DuckDBPyConnection, cursor: str | None) -> Changes:
    """Implements ``Warehouse.changes``, in one transaction that leaves nothing behind. Blocking."""
    connection.execute("BEGIN TRANSACTION")
    low = _place(connection, cursor)
    reset = low is None
    if low is None or cursor is None:
        low, cursor = START, ""
    high, more = _end(connection, low)
    counts: list[tuple[str, str, str, int]] = []
    lines: list[bytes] = []
    if high is not None:
        _read(connection, low, high)
        while (end := _affordable(connection, low, high)) is not None:
            high, more = end, True
            connection.execute("DROP TABLE chunk; DROP TABLE picked")
            _read(connection, low, high)
        since = (datetime.now(UTC) - timedelta(days=COUNTED_DAYS)).strftime("%Y-%m-%dT%H")
        counts = connection.execute(_COUNT, {"since": since, "operational": OPERATIONAL_CUSTOMER}).fetchall()
        connection.execute(f"SELECT payload {_LINES}", {"low": low, "high": high})
        lines = list(_fetched(connection))
        batch = connection.execute(_BATCH_OF, [high]).fetchone()
        cursor = f"{high.isoformat()} {batch[0] if batch else ''}"
    connection.execute("ROLLBACK")
    return Changes(cursor, reset, more, counts, lines)


def _place(connection: duckdb.DuckDBPyConnection, cursor: str | None) -> datetime | None:
    """The cursor's ``_loaded_at``; None when this file does not hold its batch."""
    if not cursor:
        return START
    text, _, batch_id = cursor.partition(" ")
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if connection.execute(_HAS_BATCH, [moment, batch_id]).fetchone() is not None:
            return moment
    return None


def _end(connection: duckdb.DuckDBPyConnection, low: datetime) -> tuple[datetime | None, bool]:
    """The last ``_loaded_at`` of the chunk that follows ``low``, and whether there is more after it."""
    rows, last = connection.execute(_LAST, [low]).fetchone() or (0, None)
    if rows <= CHUNK_ROWS:
        return last, False
    (end,) = connection.execute(_NTH, [low, CHUNK_ROWS - 1]).fetchone() or (last,)
    return end, end < last


def _read(connection: duckdb.DuckDBPyConnection, low: datetime, high: datetime) -> None:
    """Make the tables ``chunk``, of all its rows, and ``picked``, of those whose lines are needed."""
    connection.execute(_READ_CHUNK, {"low": low, "high": high, "form": _FORM})
    wanted = {"insight": INSIGHT_ACTIVITY, "recent": RECENT_EVENTS, "operational": OPERATIONAL_CUSTOMER}
    connection.execute(_PICK_LINES, wanted)


def _affordable(connection: duckdb.DuckDBPyConnection, low: datetime, high: datetime) -> datetime | None:
    """Where the chunk must end to have few enough bytes of lines; None when it may stay as it is."""
    total = 0
    end: datetime | None = None
    sql = f"SELECT _loaded_at, sum(strlen(payload)) {_LINES} GROUP BY _loaded_at ORDER BY _loaded_at"
    for moment, size in connection.execute(sql, {"low": low, "high": high}).fetchall():
        total += size
        if end is not None and total > CHUNK_BYTES:
            return end
        end = moment
    return None


def _fetched(connection: duckdb.DuckDBPyConnection) -> Iterator[bytes]:
    while rows := connection.fetchmany(SLICE_LINES):
        for (payload,) in rows:
            yield payload.encode()
