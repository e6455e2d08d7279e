"""An uploader's side of tickets, played by the tests."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tests.server.server_samples import Connected

from snowledger_queue import QueryResult, RunnerTickets, Spool, timestamp

QUERY: dict[str, Any] = {"template": "activity_counts", "params": {"since": "24h"}}

COLUMNS = [{"name": "activity", "type": "VARCHAR"}, {"name": "events", "type": "BIGINT"}]
ROWS: list[list[Any]] = [["cdesk.user_asked", 3], ["cdesk.ü\u2028", None]]

NOT_TICKETS: list[Any] = [
    *("", "x", "0" * 31, "0" * 33, "0" * 32 + "\n", "ABCDEF0123456789" * 2, "g" * 32, "../../etc/passwd", "\ud800"),
    *("\u0660" * 32, "' OR 1=1 --", 5, True, ["0" * 32], {"a": 1}, "0" * 100_000),
]


def now() -> str:
    return timestamp(datetime.now(UTC))


def result(*, artifact: bool = True, truncated: bool = False, rows: Sequence[Sequence[Any]] = ROWS) -> QueryResult:
    return QueryResult(json.dumps(COLUMNS), json.dumps(rows), len(rows), 1234, truncated, artifact)


def begin(runner: RunnerTickets, ticket_id: str) -> None:
    """Run this ticket, which is the next."""
    claimed = runner.claim(now())
    assert claimed is not None
    assert claimed.ticket_id == ticket_id


def finish(runner: RunnerTickets, ticket_id: str, **more: Any) -> None:
    """Run this ticket, which is the next, to its end."""
    begin(runner, ticket_id)
    assert runner.succeed(ticket_id, result(**more), now())


def write_artifact(spool: Spool, ticket_id: str, content: bytes) -> None:
    (spool.artifacts / f"{ticket_id}.parquet").write_bytes(content)


async def submitted(server: Connected, **more: Any) -> str:
    """The id of a new ticket."""
    answer = await server.ok("submit_query", {**QUERY, **more})
    assert not answer["reused"]
    return str(answer["ticket_id"])
