"""Runs tickets in place of an uploader, as a test wants them to end."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from threading import Event, Thread
from typing import TypeAlias

import duckdb

from snowledger_ddl import checked_parameters, load_templates, query_hash
from snowledger_queue import ProcessLock, QueryResult, RunnerTickets, Spool, Ticket, timestamp

Answer: TypeAlias = Callable[[Spool, RunnerTickets, Ticket], object]


def now(seconds: float = 0) -> str:
    return timestamp(datetime.fromtimestamp(time.time() + seconds, UTC))


def submitted(
    spool: Spool, customer: str = "acme", since: str = "7d", *, at: str | None = None, byte_cap: int | None = None
) -> Ticket:
    """A ticket for activity counts, as a server makes it."""
    template = load_templates().templates["activity_counts"]
    checked = checked_parameters(template, {"since": since})
    with closing(RunnerTickets(spool)) as tickets:
        if not spool.state.exists():
            tickets.recover(now())
        ticket, _ = tickets.submit(
            customer=customer,
            customers=[customer],
            template=template.name,
            params=json.dumps(checked),
            query_hash=query_hash(template, checked),
            query_tag="cdesk_0a1b2c3d",
            byte_cap=byte_cap,
            max_age_s=0,
            now=at or now(),
        )
    return ticket


def rows_of(sql: str, *, truncated: bool = False, at: str | None = None) -> Answer:
    """The result is what the statement gives."""

    def answer(spool: Spool, tickets: RunnerTickets, ticket: Ticket) -> None:
        path = spool.artifacts / f"{ticket.ticket_id}.parquet"
        with duckdb.connect() as connection:
            connection.execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)")
            described = connection.execute(f"DESCRIBE {sql}").fetchall()
            [(count,)] = connection.execute(f"SELECT count(*) FROM ({sql})").fetchall()  # noqa: S608 - the test's own
        columns = json.dumps([{"name": name, "type": kind} for name, kind, *_ in described])
        result = QueryResult(columns, "[[1]]", count, path.stat().st_size, truncated, artifact=True)
        assert tickets.succeed(ticket.ticket_id, result, at or now())

    return answer


def failure(error: str) -> Answer:
    return lambda _, tickets, ticket: tickets.fail(ticket.ticket_id, error, now())


def run_next(spool: Spool, answer: Answer) -> Ticket:
    """Run the oldest queued ticket; the ticket as it was claimed."""
    with closing(RunnerTickets(spool)) as tickets:
        ticket = tickets.claim(now())
        assert ticket is not None
        answer(spool, tickets, ticket)
    return ticket


@contextmanager
def answering(spool: Spool, answer: Answer) -> Iterator[list[Ticket]]:
    """Hold the uploader's lock and answer every ticket while the context lasts; gives the tickets as they are begun."""
    begun: list[Ticket] = []
    stop = Event()
    lock = ProcessLock.acquire(spool.uploader_lock, "uploader")
    with closing(RunnerTickets(spool)) as tickets:
        tickets.recover(now())

        def run() -> None:
            while not stop.wait(0.01):
                ticket = tickets.claim(now())
                if ticket is not None:
                    begun.append(ticket)
                    answer(spool, tickets, ticket)

        thread = Thread(target=run)
        thread.start()
        try:
            yield begun
        finally:
            stop.set()
            thread.join()
            lock.release()
