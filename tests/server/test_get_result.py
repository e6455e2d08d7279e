"""get_result and cancel_query as a client sees them, in both eras: how a query stands, until it is over."""

import sqlite3
import time
from typing import Any

import anyio
import pytest
from tests.server.query_samples import COLUMNS, NOT_TICKETS, QUERY, ROWS, begin, finish, now, result, submitted
from tests.server.server_samples import ERAS, EVENT, Connected, connected

from snowledger_queue import BreakerStatus, RunnerTickets, Spool, UploaderStatus, write_uploader_status
from snowledger_server import _queries as module

pytestmark = pytest.mark.parametrize("mode", ERAS)

PATIENCE_S = 20

NOT_FOUND = "ticket_id: ticket not found; submit_query returns the id, and get_context lists the last ones"

BAD_WAITS: list[Any] = [-1, 20.5, 21, 10**400, True, "5", [5], {}]


async def standing(server: Connected, ticket_id: str, wait_s: float = 0) -> dict[str, Any]:
    return await server.ok("get_result", {"ticket_id": ticket_id, "wait_s": wait_s})


class Waiting:
    """A call of get_result that waits, with the reports of its progress."""

    def __init__(self, server: Connected, ticket_id: str) -> None:
        self.answer: dict[str, Any] | None = None
        self.reports: list[tuple[float, float | None, str]] = []
        self._news = anyio.Event()
        self._server = server
        self._arguments = {"ticket_id": ticket_id, "wait_s": PATIENCE_S}

    async def run(self) -> None:
        async def report(progress: float, total: float | None, message: str | None) -> None:
            assert message is not None
            self.reports.append((progress, total, message))
            self._news.set()
            self._news = anyio.Event()

        called = await self._server.client.call_tool("get_result", self._arguments, progress_callback=report)
        self.answer = called.structured_content

    async def told(self, words: str) -> None:
        with anyio.fail_after(PATIENCE_S):
            while not any(words in message for _, _, message in self.reports):
                await self._news.wait()


async def test_a_query_is_followed_from_the_queue_to_its_result(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    async with connected(spool, mode) as server:
        await submitted(server)
        asked = await server.ok("submit_query", {"template": "errors"})
        ticket_id = asked["ticket_id"]
        told = {"ticket_id": ticket_id, "template": "errors", "query_hash": asked["query_hash"]}
        queued = await standing(server, ticket_id)
        told["submitted_at"] = queued["submitted_at"]
        assert queued == {**told, "status": "queued", "position": 1}
        away = BreakerStatus("open", "2026-11-21T03:57:00.000000Z", 7, None, 2, 9)
        write_uploader_status(spool, UploaderStatus(1, "waiting", now(), breaker=away))
        assert "has not answered since 2026-11-21T03:57" in (await standing(server, ticket_id))["waits_for"]
        runner.claim(now())
        assert (await standing(server, ticket_id))["position"] == 0
        begin(runner, ticket_id)
        runner.progress(ticket_id, 4_000)
        running = await standing(server, ticket_id)
        assert 0 <= running.pop("running_s") < PATIENCE_S
        assert running == {**told, "status": "running", "rows_so_far": 4_000, "cancel_requested": False}
        runner.succeed(ticket_id, result(truncated=True), now())
        assert await standing(server, ticket_id) == {
            **told,
            "status": "succeeded",
            "columns": COLUMNS,
            "rows": ROWS,
            "row_count": 2,
            "bytes": 1234,
            "truncated": True,
            "artifact": f"snowledger://artifacts/{ticket_id}",
        }


async def test_a_query_that_failed_says_why_and_is_no_error_of_the_call(
    spool: Spool, mode: str, runner: RunnerTickets
) -> None:
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        begin(runner, ticket_id)
        runner.fail(ticket_id, "it took longer than 30 s", now())
        answer = await standing(server, ticket_id, 20)
    assert (answer["status"], answer["error"]) == ("failed", "it took longer than 30 s")


async def test_a_result_whose_file_is_gone_has_no_address(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        finish(runner, ticket_id, artifact=False)
        answer = await standing(server, ticket_id)
    assert (answer["status"], answer["rows"]) == ("succeeded", ROWS)
    assert "artifact" not in answer


async def test_who_waits_has_the_result_as_soon_as_it_is_there(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        waiting = Waiting(server, ticket_id)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waiting.run)
            await waiting.told("queued, it is the next")
            begin(runner, ticket_id)
            await waiting.told("0 rows so far")
            runner.progress(ticket_id, 70)
            await waiting.told("70 rows so far")
            await waiting.told("running for 1.")  # without anything new in state.db
            await server.ok("cancel_query", {"ticket_id": ticket_id})
            await waiting.told("being cancelled")
            ended = time.monotonic()
            runner.succeed(ticket_id, result(), now())
        assert time.monotonic() - ended < 5
    assert waiting.answer is not None
    assert waiting.answer["status"] == "succeeded"
    times = [done for done, _, _ in waiting.reports]
    assert times == sorted(set(times)), "progress must grow with every report"
    assert {total for _, total, _ in waiting.reports} == {None}


@pytest.mark.usefixtures("runner")
async def test_a_wait_ends_when_it_is_over(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        for wait_s in (0, 0.3):
            begun = time.monotonic()
            assert (await standing(server, ticket_id, wait_s))["status"] == "queued"
            assert wait_s <= time.monotonic() - begun < wait_s + 1


async def test_those_who_wait_hold_nothing_else_up(
    spool: Spool, mode: str, runner: RunnerTickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 60)  # half of them for one customer
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        waiting = [Waiting(server, ticket_id) for _ in range(30)]
        async with anyio.create_task_group() as tasks:
            for one in waiting:
                tasks.start_soon(one.run)
            for one in waiting:
                await one.told("queued")
            begun = time.monotonic()
            for tool, arguments in (
                ("log_event", EVENT),
                ("get_context", {}),
                ("submit_query", {"template": "errors"}),
            ):
                await server.ok(tool, arguments)
            assert (await standing(server, ticket_id, 20))["status"] == "queued", "one too many answers at once"
            assert time.monotonic() - begun < 2
            finish(runner, ticket_id)
    assert [one.answer and one.answer["status"] for one in waiting] == ["succeeded"] * 30


async def test_a_wait_that_the_client_gives_up_leaves_the_server_in_order(
    spool: Spool, mode: str, runner: RunnerTickets
) -> None:
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        for _ in range(3):
            with anyio.move_on_after(0.05) as scope:
                await standing(server, ticket_id, 20)
            assert scope.cancelled_caught
        finish(runner, ticket_id)
        assert (await standing(server, ticket_id, 20))["status"] == "succeeded"


async def test_a_queued_query_is_cancelled_at_once_and_a_running_one_on_request(
    spool: Spool, mode: str, runner: RunnerTickets
) -> None:
    async with connected(spool, mode) as server:
        first, second = await submitted(server), await submitted(server, template="errors", params={})
        begin(runner, first)
        for _ in range(2):
            answer = await server.ok("cancel_query", {"ticket_id": second})
            assert answer == {"ticket_id": second, "status": "cancelled", "cancel_requested": True}
            answer = await server.ok("cancel_query", {"ticket_id": first})
            assert answer == {"ticket_id": first, "status": "running", "cancel_requested": True}
        assert runner.cancel_requests() == {first}
        assert (await standing(server, first))["cancel_requested"] is True
        runner.cancelled(first, now())
        for ticket_id in (first, second):
            cancelled = await standing(server, ticket_id, 20)
            assert (cancelled["status"], cancelled["error"]) == ("cancelled", None)


async def test_a_finished_query_stays_as_it_is(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        finish(runner, ticket_id)
        before = await standing(server, ticket_id)
        answer = await server.ok("cancel_query", {"ticket_id": ticket_id})
        assert answer == {"ticket_id": ticket_id, "status": "succeeded", "cancel_requested": False}
        assert await standing(server, ticket_id) == before


async def test_the_kill_switch_says_why_a_query_was_cancelled(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        waiting = Waiting(server, ticket_id)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waiting.run)
            await waiting.told("queued")
            runner.set_kill_switch(on=True, reason="the bill", by="operator", now=now())
    assert waiting.answer is not None
    assert waiting.answer["status"] == "cancelled"
    assert waiting.answer["error"] == "the kill switch was turned on: the bill"


@pytest.mark.parametrize("tool", ["get_result", "cancel_query"])
async def test_unknown_foreign_and_impossible_tickets_are_not_found_in_the_same_words(
    spool: Spool, mode: str, tool: str, runner: RunnerTickets
) -> None:
    async with connected(spool, mode, customer="beta") as other:
        theirs = [await submitted(other), await submitted(other, template="errors", params={})]
        finish(runner, theirs[0])
    async with connected(spool, mode, "beta") as server:
        answers = {
            await server.refused(tool, {"ticket_id": ticket_id}) for ticket_id in (*theirs, "0" * 32, *NOT_TICKETS)
        }
    [(message, retryable)] = answers
    assert message.startswith(NOT_FOUND)
    assert "Repeating the call unchanged will not help" in message
    assert not retryable
    assert [ticket.status for ticket in runner.list("beta", 5)] == ["queued", "succeeded"]


@pytest.mark.usefixtures("runner")
async def test_a_wrong_argument_is_named_with_what_is_accepted(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        for wait_s in BAD_WAITS:
            message, retryable = await server.refused("get_result", {"ticket_id": ticket_id, "wait_s": wait_s})
            assert message == (
                "wait_s: accepted is a number of seconds from 0 to 20. Correct the argument and call again."
            )
            assert not retryable
        for tool in ("get_result", "cancel_query"):
            message, _ = await server.refused(tool, {})
            assert message.startswith("ticket_id: missing; required are ticket_id")
            message, _ = await server.refused(tool, {"ticket_id": ticket_id, "customer_id": "acme"})
            assert message.startswith("customer_id: unknown argument")


async def test_a_ticket_that_cannot_be_read_now_may_be_asked_for_again(
    spool: Spool, mode: str, runner: RunnerTickets, caplog: pytest.LogCaptureFixture
) -> None:
    """The path of the spool is in the log, and not in the answer."""
    caplog.set_level("INFO")
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        aside = spool.state.with_name("aside")
        spool.state.rename(aside)
        for tool in ("get_result", "cancel_query"):
            message, retryable = await server.refused(tool, {"ticket_id": ticket_id})
            assert "start one with `snowledger upload`" in message
            assert str(spool.state) not in message
            assert f"{tool} unavailable: {spool.state} is not there" in caplog.text
            assert message.endswith("Repeat the call unchanged in a second.")
            assert retryable
        aside.rename(spool.state)
        finish(runner, ticket_id)
        assert (await standing(server, ticket_id))["status"] == "succeeded"


async def test_a_locked_state_keeps_nobody_who_only_asks(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        finish(runner, ticket_id)
        blocker = sqlite3.connect(spool.state, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        try:
            begun = time.monotonic()
            assert (await standing(server, ticket_id, 20))["status"] == "succeeded"
            assert time.monotonic() - begun < 1
        finally:
            blocker.execute("ROLLBACK")
            blocker.close()


async def test_the_same_query_asked_by_two_is_waited_for_by_both(
    spool: Spool, mode: str, runner: RunnerTickets
) -> None:
    async with connected(spool, mode) as server, connected(spool, mode) as second:
        ticket_id = await submitted(server)
        assert (await second.ok("submit_query", QUERY))["ticket_id"] == ticket_id
        calls = [Waiting(client, ticket_id) for client in (server, second)]
        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(call.run)
            for call in calls:
                await call.told("queued")
            finish(runner, ticket_id)
    assert [call.answer and call.answer["rows"] for call in calls] == [ROWS, ROWS]
