"""What Snowflake has got since a cursor: the counts and the lines that contexts are made of.

A cursor names the newest ``_loaded_at`` that was read, the batches read in the minutes before it, and how many rows
there were. A batch is visible as a whole, but another writer's may be visible late: later than batches that were loaded
after it. So each call looks back a little, and passes over the batches that it knows.

An event that two uploaders load in the same moment is there twice, and counted twice here: to see that would take the
ids of all events.
"""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from snowledger_queue import INSIGHT_ACTIVITY, MAX_FEATURE_PREVIEW_BYTES, OPERATIONAL_CUSTOMER, RECENT_EVENTS, Changes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._session import Session

CHUNK_ROWS = 250_000
"""Rows of one call, and the rest of the batch in which they end."""

CHUNK_BATCHES = 1_000
"""Batches of one call: they are named in a statement."""

CHUNK_BYTES = 64 * 1024 * 1024
"""Lines of one call, unless a single batch has more. Half the batches are tried when there are more."""

COUNTED_DAYS = 8
"""Events are counted for seven days, in whole hours; a day more, for clocks differ."""

OVERLAP = timedelta(minutes=15)
"""How late a batch may become visible: longer than a statement may run, and the insert is a batch's last but one."""

MEMORY = OVERLAP + timedelta(minutes=1)
"""How long a batch is known: somewhat longer than anybody looks back, for times are rounded."""

ID_CHARACTERS = 12
"""Of a batch id in a cursor. With 48 bits, 30,000 batches in ``OVERLAP`` hold one that looks like the next new one once
in ten thousand million."""

START = datetime(1970, 1, 1)  # noqa: DTZ001 - the column is UTC without a zone

_TICK = timedelta(milliseconds=1)
"""Snowflake's times have nanoseconds, Python's do not."""

_LONG_PREVIEW = 16 * MAX_FEATURE_PREVIEW_BYTES
"""Features with more characters than this are in no context: Snowflake writes some numbers several times as long."""

_UNSHOWN = {"": "x" * MAX_FEATURE_PREVIEW_BYTES}
"""In place of such features: like them, too long to be repeated."""

# From metadata alone, so it leaves the warehouse suspended.
_WHOLE = "SELECT COUNT(*), MAX(_loaded_at) FROM RAW_EVENTS"

# Reads two columns of the newest partitions. The first row says whether the cursor's newest batch is there. Numbers
# come as text, which the connector reads right in large results, too (see ``Session.result``).
_BATCHES = f"""
WITH batches AS (
    SELECT
        LEFT(_batch_id, {ID_CHARACTERS}) AS batch,
        MIN(_loaded_at) AS first,
        MAX(_loaded_at) AS last,
        CAST(COUNT(*) AS VARCHAR) AS n
    FROM RAW_EVENTS
    WHERE _loaded_at >= ?
    GROUP BY LEFT(_batch_id, {ID_CHARACTERS})
),

unread AS (
    SELECT batches.batch, batches.first, batches.last, batches.n
    FROM batches
    LEFT JOIN (SELECT CAST(value AS VARCHAR) AS batch FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?)))) AS seen
        ON batches.batch = seen.batch
    WHERE seen.batch IS NULL
    ORDER BY batches.last, batches.batch
    LIMIT {CHUNK_BATCHES + 1}
)

SELECT batch, first, last, n, 0 AS part FROM batches WHERE batch = ?
UNION ALL
SELECT batch, first, last, n, 1 AS part FROM unread
ORDER BY part, last, batch
"""  # noqa: S608 - our own constants

# The bounds let Snowflake pass over partitions, before it reads any payload.
_READ = f"""
WITH parsed AS (
    SELECT
        AS_VARCHAR(payload:activity_id) AS id,
        AS_VARCHAR(payload:ts) AS ts,
        AS_VARCHAR(payload:customer) AS customer,
        AS_VARCHAR(payload:activity) AS activity,
        AS_VARCHAR(payload:link) AS link,
        TO_JSON(payload:feature_json) AS features
    FROM RAW_EVENTS
    INNER JOIN (SELECT CAST(value AS VARCHAR) AS batch FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?)))) AS chosen
        ON LEFT(_batch_id, {ID_CHARACTERS}) = chosen.batch
    WHERE _loaded_at >= ? AND _loaded_at <= ? AND IS_OBJECT(payload:feature_json)
),

events AS (
    SELECT id, ts, customer, activity, link, features, activity = '{INSIGHT_ACTIVITY}' AS is_insight
    FROM parsed
    WHERE
        id IS NOT NULL
        AND activity IS NOT NULL
        AND customer <> '{OPERATIONAL_CUSTOMER}'
        AND ts LIKE '____-__-__T__:__:__%Z'
),

ranked AS (
    SELECT
        id,
        ts,
        customer,
        activity,
        link,
        CASE WHEN is_insight OR LENGTH(features) <= {_LONG_PREVIEW} THEN features END AS preview,
        is_insight,
        ROW_NUMBER() OVER (PARTITION BY customer, is_insight ORDER BY ts DESC, id DESC) AS place
    FROM events
)

SELECT
    NULL AS id,
    LEFT(ts, 13) AS moment,
    customer,
    activity,
    NULL AS link,
    NULL AS preview,
    CAST(COUNT(*) AS VARCHAR) AS n
FROM events
WHERE ts >= ?
GROUP BY LEFT(ts, 13), customer, activity
UNION ALL
SELECT id, ts AS moment, customer, activity, link, preview, NULL AS n
FROM ranked
WHERE is_insight OR place <= {RECENT_EVENTS}
"""  # noqa: S608 - our own constants


class _Cursor(NamedTuple):
    """Where a call goes on."""

    at: datetime
    """The newest ``_loaded_at`` read."""
    seen: dict[str, datetime]
    """Batches read, those of ``MEMORY``: the beginnings of their ids, and when they were loaded."""
    rows: int
    """Of the whole table, when it was looked at and nothing was left unread; else -1."""
    newest: datetime | None
    """``_loaded_at`` of the whole table, then."""

    @classmethod
    def read(cls, text: str) -> _Cursor:
        """Raises ``ValueError`` for any other text."""
        try:
            at, seen, rows, newest = orjson.loads(text)
            when = {str(batch): datetime.fromisoformat(moment) for batch, moment in seen.items()}
            known = None if newest is None else datetime.fromisoformat(newest)
            return cls(datetime.fromisoformat(at), when, int(rows), known)
        except (TypeError, AttributeError) as error:
            raise ValueError(str(error)) from error

    def text(self) -> str:
        return orjson.dumps([self.at, self.seen, self.rows, self.newest]).decode()

    @property
    def last(self) -> str:
        """The batch without which this is another table; empty when none was read."""
        return max(self.seen, key=lambda batch: self.seen[batch], default="")


class _Batch(NamedTuple):
    """A batch that was not read yet."""

    batch: str
    first: datetime
    last: datetime
    rows: int


_BEGINNING = _Cursor(START, {}, 0, None)


async def changes(session: Session, cursor: str | None) -> Changes:
    """Implements ``Warehouse.changes``: one statement that needs no warehouse, and two more when there is something."""
    reset = False
    try:
        place = _BEGINNING if cursor is None else _Cursor.read(cursor)
    except ValueError:
        place, reset = _BEGINNING, True
    [(rows, newest)] = (await session.run(_WHOLE)).rows
    if cursor is not None and not reset and (rows, newest) == (place.rows, place.newest):
        return Changes(cursor, reset=False, more=False, counts=[], lines=[])
    batches, there = await _unread(session, place)
    if not there:
        place, reset = _BEGINNING, True
        batches, _ = await _unread(session, place)
    chosen = _chunk(batches)
    counts: list[tuple[str, str, str, int]] = []
    lines: list[bytes] = []
    while chosen:
        found = await _read(session, chosen)
        if found is not None:
            counts, lines = found
            break
        chosen = chosen[: len(chosen) // 2]
    more = len(chosen) < len(batches)
    place = _advanced(place, chosen)._replace(rows=-1 if more else rows, newest=newest)
    return Changes(place.text(), reset, more, counts, lines)


async def _unread(session: Session, place: _Cursor) -> tuple[list[_Batch], bool]:
    """The first batches that were not read yet, and whether the table is still that of the cursor."""
    low = place.at - OVERLAP if place.seen else START
    found = (await session.run(_BATCHES, (low, orjson.dumps(list(place.seen)).decode(), place.last))).rows
    unread = [_Batch(batch, first, last, int(n)) for batch, first, last, n, part in found if part]
    return unread, not place.last or len(unread) < len(found)


def _chunk(batches: Sequence[_Batch]) -> list[_Batch]:
    """As many of the batches as a call may bring."""
    chosen: list[_Batch] = []
    rows = 0
    for batch in batches[:CHUNK_BATCHES]:
        if rows >= CHUNK_ROWS:
            break
        chosen.append(batch)
        rows += batch.rows
    return chosen


async def _read(
    session: Session, chosen: Sequence[_Batch]
) -> tuple[list[tuple[str, str, str, int]], list[bytes]] | None:
    """Counts and lines of the batches; None when there are too many bytes of lines for so many batches."""
    since = (datetime.now(UTC) - timedelta(days=COUNTED_DAYS)).strftime("%Y-%m-%dT%H")
    first, last = min(batch.first for batch in chosen), max(batch.last for batch in chosen)
    counts: list[tuple[str, str, str, int]] = []
    lines: list[bytes] = []
    words: dict[str, str] = {}  # each once in memory, however many rows have it
    size = 0
    names = orjson.dumps([batch.batch for batch in chosen]).decode()
    async with aclosing(session.stream(_READ, (names, first, last + _TICK, since))) as stream:
        async for rows in stream:
            for row in rows:
                if row[0] is None:
                    _, hour, customer, activity, _, _, events = row
                    known = [words.setdefault(word, word) for word in (customer, hour, activity)]
                    counts.append((known[0], known[1], known[2], int(events)))
                else:
                    lines.append(_line(*row[:-1]))
                    size += len(lines[-1])
            if size > CHUNK_BYTES and len(chosen) > 1:
                return None
    return counts, lines


def _line(activity_id: str, ts: str, customer: str, activity: str, link: str | None, features: str | None) -> bytes:
    """The event as contexts need it; Snowflake has not kept the line itself."""
    event: dict[str, Any] = {"activity_id": activity_id, "ts": ts, "customer": customer, "activity": activity}
    event["feature_json"] = _UNSHOWN if features is None else orjson.Fragment(features)
    if link is not None:
        event["link"] = link
    return orjson.dumps(event)


def _advanced(place: _Cursor, chosen: Sequence[_Batch]) -> _Cursor:
    at = max((place.at, *(batch.last for batch in chosen)))
    seen = place.seen | {batch.batch: batch.last for batch in chosen}
    return place._replace(at=at, seen={batch: loaded for batch, loaded in seen.items() if loaded >= at - MEMORY})
