"""Tickets and templates for the tests of the query runner."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import duckdb
import orjson
from anyio import to_thread
from tests.ddl.template_samples import write
from tests.uploader.uploader_samples import ORIGIN, PATIENCE_S, batch_of, opened, wait_until

from snowledger_ddl import checked_parameters, load_templates, query_hash
from snowledger_queue import Event, RunnerTickets, Spool, Ticket, Tickets, new_event, new_query_tag, timestamp
from snowledger_uploader import Breaker, DuckDBWarehouse, OwnEvents, Query, QueryLimits, QueryRunner

# Of one activity, for queries leave events too.
COUNT = """
SELECT activity, count(*) AS n FROM events WHERE customer = $customer AND activity = 'cdesk.user_asked'
GROUP BY activity ORDER BY activity
"""
NUMBERS = """
SELECT CAST(feature_json ->> '$.number' AS BIGINT) AS number, $text AS text
FROM events WHERE customer = $customer AND activity = 'cdesk.user_asked' ORDER BY number
"""
TEXT = '[params.text]\ntype = "string"\ndefault = ""\ndescription = "Comes back."\n'
# Four times all events: hours for some hundred of them, and no row before the end.
ENDLESS = """
SELECT count(*) AS n
FROM events AS a CROSS JOIN events AS b CROSS JOIN events AS c CROSS JOIN events AS d CROSS JOIN events AS e
WHERE a.customer = $customer AND length(a.activity_id || b.activity_id || c.activity_id || d.activity_id) > 1000
"""
PAIRS = """
SELECT a.activity_id AS one, b.activity_id AS other, a.ts AS at
FROM events AS a CROSS JOIN events AS b
WHERE a.customer = $customer AND a.activity = 'cdesk.user_asked' AND b.activity = 'cdesk.user_asked'
"""


def event(number: int, customer: str = "acme", **features: object) -> Event:
    """An event of now, of which number and customer are the id."""
    return new_event(
        ORIGIN,
        activity="cdesk.user_asked",
        customer=customer,
        feature_json={"number": number, **features},
        idempotency_key=f"{number}",
    )


def write_templates(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    write(folder, COUNT, name="counts")
    write(folder, NUMBERS, f"row_limit = 10000000\n{TEXT}", name="numbers")
    write(folder, ENDLESS, name="endless")
    write(folder, PAIRS, "row_limit = 10000000\n", name="pairs")
    return folder


def query(folder: Path, name: str, templates: Path, **changes: Any) -> Query:
    """A query that is run in a new folder."""
    template = load_templates(templates).templates[name]
    params = checked_parameters(template, changes.pop("params", {}))
    defaults: dict[str, Any] = {
        "customer": "acme",
        "customers": ("acme",),
        "now": datetime.now(UTC),
        "tag": "cdesk_0123abcd",
        "limit_s": 30.0,
        "row_cap": 1_000_000,
        "byte_cap": 2**28,
        "folder": folder / f"query-{time.monotonic_ns()}",
    }
    return Query(template, params, **{**defaults, **changes})


def parquet(path: Path, sql: str = "SELECT * FROM result") -> list[tuple[Any, ...]]:
    """The rows of a file, in its order; read as another program would."""
    with duckdb.connect() as connection:
        connection.from_parquet(str(path)).create_view("result")
        return connection.execute(sql).fetchall()


async def load(path: Path, folder: Path, events: Sequence[Event]) -> None:
    async with opened(path) as warehouse:
        await warehouse.load(batch_of(folder, [event.line for event in events]))


def submitted(spool: Spool, name: str, templates: Path | None = None, **changes: Any) -> str:
    """Ask a query as a server does; the ticket's id."""
    template = load_templates(templates).templates[name]
    checked = checked_parameters(template, changes.pop("params", {}))
    defaults: dict[str, Any] = {
        "customer": "acme",
        "customers": ("acme",),
        "template": template.name,
        "params": orjson.dumps(checked).decode(),
        "query_hash": query_hash(template, checked),
        "query_tag": new_query_tag(),
        "byte_cap": None,
        "max_age_s": 0.0,
        "now": timestamp(datetime.now(UTC)),
    }
    with closing(RunnerTickets(spool)) as maker:
        maker.progress("nobody's", 0)  # changes nothing, but the file is there then
    with closing(Tickets(spool)) as tickets:
        return tickets.submit(**{**defaults, **changes})[0].ticket_id


def ticket(spool: Spool, ticket_id: str) -> Ticket:
    with closing(Tickets(spool)) as tickets:
        found = tickets.of_anybody(ticket_id)
    assert found is not None
    return found


def wait_for(spool: Spool, ticket_id: str, condition: Callable[[Ticket], object], what: str) -> Ticket:
    found: list[Ticket] = []

    def holds() -> bool:
        found[:] = [ticket(spool, ticket_id)]
        return bool(condition(found[0]))

    wait_until(holds, what)
    return found[0]


def finished(spool: Spool, ticket_id: str) -> Ticket:
    return wait_for(spool, ticket_id, lambda found: found.finished_at is not None, "the query has ended")


def running(spool: Spool, ticket_id: str, attempt: int = 1) -> Ticket:
    return wait_for(
        spool, ticket_id, lambda found: (found.status, found.attempts) == ("running", attempt), "the query runs"
    )


async def ended(spool: Spool, ticket_id: str) -> Ticket:
    return await to_thread.run_sync(finished, spool, ticket_id)


async def begun(spool: Spool, ticket_id: str) -> Ticket:
    return await to_thread.run_sync(running, spool, ticket_id)


async def filled(path: Path, tmp_path: Path, count: int = 300) -> None:
    await load(path, tmp_path, [event(number) for number in range(count)])


async def seen(condition: Callable[[], object]) -> None:
    await to_thread.run_sync(wait_until, condition)


async def runs_on(spool: Spool, templates: Path) -> str:
    """The id of a query that runs until it is stopped, and has got as far as the warehouse."""
    asked = submitted(spool, "endless", templates)
    await begun(spool, asked)
    await anyio.sleep(0.2)
    return asked


def cancel(spool: Spool, ticket_id: str) -> None:
    with closing(Tickets(spool)) as tickets:
        tickets.cancel(ticket_id, "acme", timestamp(datetime.now(UTC)))


def set_kill_switch(spool: Spool, *, on: bool, reason: str = "maintenance") -> None:
    with closing(Tickets(spool)) as tickets:
        tickets.set_kill_switch(on=on, reason=reason, by="operator", now=timestamp(datetime.now(UTC)))


def artifact(spool: Spool, ticket_id: str) -> Path:
    return spool.artifacts / f"{ticket_id}.parquet"


def queued_events(spool: Spool, activity: str) -> list[Mapping[str, Any]]:
    """The events of an activity in the queue."""
    lines = [line for found in spool.sealed_segments() for line in found.path.read_bytes().splitlines()]
    events = [orjson.loads(line) for line in lines]
    return [found for found in events if found["activity"] == activity]


def ago(**span: float) -> str:
    return timestamp(datetime.now(UTC) - timedelta(**span))


@asynccontextmanager
async def started(
    spool: Spool, path: Path, templates: Path | None = None, breaker: Breaker | None = None, **limits: Any
) -> AsyncIterator[DuckDBWarehouse]:
    """A runner on a warehouse, which the test may use too."""
    warehouse = DuckDBWarehouse(path, spool.work, ORIGIN)
    runner = QueryRunner(spool, warehouse, OwnEvents(spool), ORIGIN, QueryLimits(**limits), templates, breaker=breaker)
    with anyio.fail_after(3 * PATIENCE_S):
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                await runner.run(check=False)

            tasks.start_soon(run)
            try:
                yield warehouse
            finally:
                tasks.cancel_scope.cancel()
    await warehouse.close()
