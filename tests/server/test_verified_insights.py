"""log_insight says of each insight whether the query it rests on was run to the end by the same customer."""

import sqlite3
import threading
import time
from typing import Any

import pytest
from tests.server.query_samples import begin, finish, now, submitted
from tests.server.server_samples import ERAS, HASH, INSIGHT, Connected, connected

from snowledger_queue import RunnerTickets, Spool, Tickets

pytestmark = pytest.mark.parametrize("mode", ERAS)


async def learn(server: Connected, query_hash: str, **more: Any) -> bool:
    """Whether it is verified: in the answer, in the event and in the context."""
    answer = await server.ok("log_insight", {**INSIGHT, "provenance_query_hash": query_hash, **more})
    [event] = [event for event in server.events() if event["activity_id"] == answer["event_id"]]
    assert event["feature_json"]["verified"] is answer["verified"]
    context = await server.ok("get_context", {"customer_id": more.get("customer_id")})
    assert context["insights"][0]["verified"] is answer["verified"]
    return bool(answer["verified"])


async def hash_of(server: Connected, ticket_id: str) -> str:
    return str((await server.ok("get_result", {"ticket_id": ticket_id}))["query_hash"])


async def test_an_insight_is_verified_once_its_query_ran_to_the_end(
    spool: Spool, mode: str, runner: RunnerTickets
) -> None:
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        query_hash = await hash_of(server, ticket_id)
        assert await learn(server, query_hash) is False, "queued"
        begin(runner, ticket_id)
        assert await learn(server, query_hash) is False, "running"
        runner.fail(ticket_id, "no", now())
        assert await learn(server, query_hash) is False, "failed"
        finish(runner, await submitted(server))
        assert await learn(server, query_hash) is True
        assert await learn(server, HASH) is False, "never run"
        await server.ok("submit_query", {"template": "activity_counts", "params": {"since": "24h"}})
        assert await learn(server, query_hash) is True, "it did run, and runs again"


async def test_what_another_customer_ran_verifies_nothing(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    async with connected(spool, mode, customer="beta") as other:
        ticket_id = await submitted(other)
        finish(runner, ticket_id)
        query_hash = await hash_of(other, ticket_id)
    async with connected(spool, mode, "beta") as server:
        assert await learn(server, query_hash) is False
        assert await learn(server, query_hash, customer_id="beta") is True


@pytest.mark.parametrize("harm", ["missing", "damaged", "slow", "locked"])
async def test_an_insight_is_kept_also_when_its_query_cannot_be_looked_up(
    spool: Spool, mode: str, runner: RunnerTickets, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        finish(runner, ticket_id)
        query_hash = await hash_of(server, ticket_id)
        blocker = sqlite3.connect(spool.state, isolation_level=None)
        if harm == "missing":
            spool.state.unlink()
        elif harm == "damaged":
            bad = spool.state.with_name("bad")
            bad.write_bytes(b"no database at all\n" * 4096)
            bad.replace(spool.state)
        elif harm == "slow":
            monkeypatch.setattr(Tickets, "finished", lambda *_arguments: go_on.wait(20))
        else:
            blocker.execute("BEGIN EXCLUSIVE")  # which keeps no reader out
        try:
            begun = time.monotonic()
            answer = await server.ok("log_insight", {**INSIGHT, "provenance_query_hash": query_hash})
            assert time.monotonic() - begun < 1.5
        finally:
            go_on.set()
            blocker.close()
        assert answer["verified"] is (harm == "locked")
        assert len(server.events()) == 1


async def test_without_any_query_nothing_is_asked(spool: Spool, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> bool:
        raise AssertionError("a question")

    monkeypatch.setattr(Tickets, "finished", refuse)
    async with connected(spool, mode) as server:
        assert await learn(server, HASH) is False


@pytest.mark.usefixtures("runner")
async def test_a_wrong_insight_asks_nothing_and_stores_nothing(
    spool: Spool, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> bool:
        raise AssertionError("a question")

    monkeypatch.setattr(Tickets, "finished", refuse)
    async with connected(spool, mode, "beta") as server:
        for wrong in ({"subject": ""}, {"metric": 5}, {"customer_id": "nope"}, {"valid_to": "never"}):
            await server.refused("log_insight", {**INSIGHT, **wrong})
