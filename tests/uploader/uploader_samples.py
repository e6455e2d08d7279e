"""Events, segments and batches for the tests of the uploader."""

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from snowledger_queue import (
    ContextReader,
    CustomerContext,
    Event,
    Origin,
    Queued,
    SealedSegment,
    SegmentName,
    Spool,
    new_event,
    timestamp,
    with_checksum,
)
from snowledger_uploader import Batch, DuckDBWarehouse, content_id

ORIGIN = Origin(source_version="1.2.3", session_id="session-1")
PATIENCE_S = 40.0  # a busy machine must not fail a test; every wait ends far sooner


def sample_event(number: int, ts: str = "2026-11-21T04:20:47.123456Z", **features: object) -> Event:
    """An event that is the same bytes each time."""
    return new_event(
        ORIGIN,
        activity="cdesk.user_asked",
        customer="acme",
        feature_json={"number": number, **features},
        activity_id=f"{number:032x}",
        ts=ts,
        query_tag="cdesk_0123abcd",
    )


def sample_lines(count: int, start: int = 0) -> list[bytes]:
    return [sample_event(number).line for number in range(start, start + count)]


def raw_line(number: int, features: bytes) -> bytes:
    """A line with a right checksum, whatever stands for its features."""
    head = b'{"activity_id":"%032x","ts":"2026-11-21T04:20:47.123456Z","customer":"acme"' % number
    return with_checksum(head + b',"activity":"cdesk.user_asked","feature_json":' + features + b"}")


def damaged(line: bytes) -> bytes:
    """The line with one bit flipped in its middle."""
    middle = len(line) // 2
    return line[:middle] + bytes([line[middle] ^ 1]) + line[middle + 1 :]


def seal(spool: Spool, lines: Sequence[bytes], sequence: int = 1) -> SealedSegment:
    """A sealed segment with these lines."""
    name = SegmentName(1_763_698_847_123, "0123456789ab", sequence, len(lines))
    path = spool.queue / name.sealed(len(lines))
    path.write_bytes(b"".join(lines))
    return SealedSegment(path, name)


def batch_of(folder: Path, *contents: Sequence[bytes]) -> Batch:
    """A batch of one file for each list of lines."""
    files = []
    digests = []
    for lines in contents:
        data = b"".join(lines)
        digest = hashlib.sha256(data)
        path = folder / f"{digest.hexdigest()}.ndjson"
        path.write_bytes(data)
        files.append(path)
        digests.append(digest.digest())
    size = sum(path.stat().st_size for path in files)
    return Batch(content_id(digests), tuple(files), sum(map(len, contents)), size)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[DuckDBWarehouse]:
    warehouse = DuckDBWarehouse(path, path.parent, ORIGIN)
    try:
        await warehouse.open()
        yield warehouse
    finally:
        await warehouse.close()


def rows(path: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Ask the DuckDB file, as any other program would; waits while an uploader has it open."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with duckdb.connect(str(path), read_only=True) as connection:
                return connection.execute(sql, parameters).fetchall()
        except duckdb.IOException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def loaded_lines(path: Path) -> list[bytes]:
    """The payloads in the warehouse without snowledger's own, by id."""
    found = rows(path, "SELECT activity_id, payload FROM activities.raw_events ORDER BY ALL")
    payloads = [(str(name), str(payload).encode() + b"\n") for name, payload in found]
    return [payload for _, payload in payloads if b'"customer":"snowledger"' not in payload]


def receipts(path: Path) -> int:
    """How many batches brought anything but snowledger's own events."""
    sql = """
        SELECT count(*) FROM activities.events WHERE activity = 'cdesk.batch_loaded'
        AND _batch_id IN (SELECT _batch_id FROM activities.events WHERE customer <> 'snowledger')
    """
    return int(rows(path, sql)[0][0])


def context(spool: Spool, customer: str = "acme", queued: Queued | None = None) -> CustomerContext:
    """What a server reads of a customer now, with what it found in the queue."""
    with closing(ContextReader(spool)) as reader:
        now = timestamp(datetime.now(UTC))
        return reader.read(customer, lambda _drained: queued or Queued((), {}, ()), now, limit=1000)


def drained_stems(spool: Spool) -> set[str]:
    """The segments that the contexts cover."""
    found: set[str] = set()

    def queued(drained: frozenset[str]) -> Queued:
        found.update(drained)
        return Queued((), {}, ())

    with closing(ContextReader(spool)) as reader:
        reader.read("acme", queued, timestamp(datetime.now(UTC)), limit=1)
    return found


def counted(spool: Spool, customer: str = "acme") -> dict[str, int]:
    """Events of the last 7 days by activity, as a server reads them."""
    return {count.activity: count.last_7_d for count in context(spool, customer).counts}


def wait_until(condition: Callable[[], object], what: str = "condition") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)
