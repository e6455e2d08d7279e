"""Tickets for the tests."""

import json
from collections.abc import Sequence

from tests.queue_package.context_samples import at

from snowledger_queue import QueryResult, Ticket, Tickets, new_query_tag


def ask(
    tickets: Tickets,
    number: int = 0,
    *,
    customer: str = "acme",
    customers: Sequence[str] = ("acme",),
    byte_cap: int | None = None,
    max_age_s: float = 0,
    now: str | None = None,
) -> tuple[Ticket, bool]:
    """Submit the query of this number."""
    return tickets.submit(
        customer=customer,
        customers=customers,
        template="activity_counts",
        params=json.dumps({"n": number}),
        query_hash=hash_of(number),
        query_tag=new_query_tag(),
        byte_cap=byte_cap,
        max_age_s=max_age_s,
        now=now or at(),
    )


def hash_of(number: int) -> str:
    return f"{number:064x}"


def result(rows: int = 2, *, artifact: bool = True) -> QueryResult:
    """What a query gave."""
    columns = json.dumps([{"name": "n", "type": "integer"}])
    return QueryResult(columns, json.dumps([[n] for n in range(min(rows, 10))]), rows, rows * 8, rows > 10, artifact)
