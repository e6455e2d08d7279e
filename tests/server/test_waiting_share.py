"""Calls of get_result that wait: one customer's never take all the room there is."""

import time

import anyio
import pytest
from tests.queue_package.ticket_samples import ask
from tests.server.query_samples import now

from snowledger_queue import RunnerTickets, Spool
from snowledger_server import Identity, open_queries
from snowledger_server import _queries as module


async def test_a_customer_that_waits_for_everything_keeps_no_other_from_waiting(
    spool: Spool, runner: RunnerTickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 8)
    asked = {
        customer: ask(runner, customer=customer, customers=[customer], now=now())[0].ticket_id
        for customer in ("acme", "beta", "gama")
    }

    async def waited(customer: str, wait_s: float) -> float:
        async def report(_seconds: float, _words: str) -> None:
            pass

        begun = time.monotonic()
        await queries.wait(Identity(customer), asked[customer], wait_s, report)
        return time.monotonic() - begun

    with open_queries(spool) as queries:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(waited, "acme", 20)
            await anyio.wait_all_tasks_blocked()
            assert await waited("acme", 5) < 1, "a share is full"
            assert await waited("beta", 0.3) >= 0.3
            for customer in ("beta", "beta", "gama", "gama", "nobody-else", "nobody-else"):
                asked.setdefault(customer, ask(runner, customer=customer, customers=[customer], now=now())[0].ticket_id)
                tasks.start_soon(waited, customer, 20)
            await anyio.wait_all_tasks_blocked()
            asked["last"] = ask(runner, customer="last", customers=["last"], now=now())[0].ticket_id
            assert await waited("last", 5) < 1, "all the room there is"
            queries.leave()
        assert await waited("acme", 0.3) < 0.3
    with open_queries(spool) as queries:
        assert await waited("acme", 0.3) >= 0.3
