"""Tickets in the context: what is open and what was asked for of late, in the very next answer."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.queue_package.ticket_samples import ask, hash_of
from tests.server.query_samples import begin, finish, now, result, submitted
from tests.server.server_samples import ERAS, EVENT, INSIGHT, Connected, connected

from snowledger_queue import RunnerTickets, Spool, timestamp

pytestmark = pytest.mark.parametrize("mode", ERAS)


def ago(hours: float) -> str:
    return timestamp(datetime.now(UTC) - timedelta(hours=hours))


async def listed(server: Connected, **arguments: Any) -> list[tuple[str, str]]:
    """Ids and statuses."""
    tickets = (await server.ok("get_context", arguments))["tickets"]
    return [(ticket["ticket_id"], ticket["status"]) for ticket in tickets]


async def test_every_change_of_a_ticket_is_in_the_very_next_answer(
    spool: Spool, mode: str, runner: RunnerTickets
) -> None:
    async with connected(spool, mode) as server:
        assert await listed(server) == []
        asked = await server.ok("submit_query", {"template": "errors"})
        ticket_id = asked["ticket_id"]
        [ticket] = (await server.ok("get_context", {}))["tickets"]
        assert ticket == {
            "ticket_id": ticket_id,
            "template": "errors",
            "status": "queued",
            "query_hash": asked["query_hash"],
            "submitted_at": ticket["submitted_at"],
        }
        assert await listed(server) == [(ticket_id, "queued")]
        begin(runner, ticket_id)
        assert await listed(server) == [(ticket_id, "running")]
        runner.succeed(ticket_id, result(), now())
        assert await listed(server) == [(ticket_id, "succeeded")]
        assert (await server.ok("get_context", {}))["tickets"] == [{**ticket, "status": "succeeded", "row_count": 2}]


async def test_open_ones_come_first_then_the_newest_and_old_ones_are_left_out(
    spool: Spool, mode: str, runner: RunnerTickets
) -> None:
    times = [200, 100, 90, 30, 20, 3, 2, 1]
    ids = [ask(runner, number, now=ago(hours))[0].ticket_id for number, hours in enumerate(times)]
    for number, hours in list(enumerate(times))[:2]:
        begin(runner, ids[number])
        runner.succeed(ids[number], result(), ago(hours))
    for number in (3, 4, 6):
        runner.cancel(ids[number], "acme", now())
    async with connected(spool, mode) as server:
        assert await listed(server) == [
            *((ids[number], "queued") for number in (7, 5, 2)),
            *((ids[number], "cancelled") for number in (6, 4)),
        ]


async def test_ten_are_shown_and_the_others_counted(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    open_ids = [ask(runner, number, now=ago(hours))[0].ticket_id for number, hours in enumerate((50, 40))]
    ids = [ask(runner, number, now=ago(10 - number / 100))[0].ticket_id for number in range(2, 15)]
    for ticket_id in ids:
        runner.cancel(ticket_id, "acme", now())
    async with connected(spool, mode) as server:
        context = await server.ok("get_context", {})
    assert [ticket["ticket_id"] for ticket in context["tickets"]] == [*reversed(open_ids), *reversed(ids[5:])]
    assert context["left_out"]["tickets"] == 5
    assert context["truncated"] is True
    assert context["next_cursor"] is None


async def test_they_stand_between_the_first_insights_and_the_counts(
    spool: Spool, mode: str, runner: RunnerTickets
) -> None:
    for number in range(10):
        ask(runner, number, now=ago(1))
    async with connected(spool, mode) as server:
        for number in range(40):
            await server.ok("log_insight", {**INSIGHT, "metric": f"m{number}"})
        await server.ok("log_event", EVENT)
        whole = await server.ok("get_context", {"max_bytes": 100_000})
        assert (len(whole["insights"]), len(whole["tickets"])) == (40, 10)
        seen = set()
        for max_bytes in range(512, 16_000, 150):
            result = await server.client.call_tool("get_context", {"max_bytes": max_bytes})
            context = result.structured_content
            assert context is not None
            assert len(json.dumps(context, separators=(",", ":"), ensure_ascii=False).encode()) <= max_bytes
            assert context["left_out"]["tickets"] == 10 - len(context["tickets"])
            if context["tickets"]:
                assert len(context["insights"]) >= 32
            if context["activity_counts"]:
                assert len(context["tickets"]) == 10
            seen.add(len(context["tickets"]))
        assert seen == set(range(11))


async def test_a_page_of_insights_has_none(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    for number in range(12):
        ask(runner, number, now=ago(1))
    async with connected(spool, mode) as server:
        for number in range(3):
            await server.ok("log_insight", {**INSIGHT, "metric": f"m{number}"})
        page = await server.ok("get_context", {"subject_prefix": "customer/"})
        assert (page["tickets"], page["left_out"]["tickets"], page["truncated"]) == ([], 0, False)
        small = await server.ok("get_context", {"max_bytes": 800})
        rest = await server.ok("get_context", {"cursor": small["next_cursor"]})
        assert (rest["tickets"], rest["left_out"]["tickets"]) == ([], 0)


async def test_only_the_customers_own_are_listed_for_it_alone(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    async with connected(spool, mode, customer="beta") as other:
        theirs = await submitted(other)
        finish(runner, theirs)
        assert await listed(other) == [(theirs, "succeeded")]
    async with connected(spool, mode, "beta") as server:
        ours = await submitted(server)
        assert await listed(server) == [(ours, "queued")]
        context = await server.ok("get_context", {"customer_id": "beta"})
        assert (context["tickets"], context["left_out"]["tickets"]) == ([], 0), "get_result would not find them"
        for uri in ("snowledger://context/acme", "snowledger://context/beta"):
            [content] = (await server.client.read_resource(uri)).contents
            assert (ours in content.model_dump_json()) is uri.endswith("acme")
            assert theirs not in content.model_dump_json()


async def test_the_hash_is_the_one_to_cite(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    ask(runner, 7, now=ago(1))
    async with connected(spool, mode) as server:
        [ticket] = (await server.ok("get_context", {}))["tickets"]
    assert ticket["query_hash"] == hash_of(7)
