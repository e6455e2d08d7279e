"""Governed queries from the client to the warehouse and back, with the real commands as processes."""

import base64
import json
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import duckdb
import mcp_types as types
import pytest
from mcp import Client
from tests.acceptance.ledger import Ledger, wait_until
from tests.command_server import Command
from tests.ddl.template_samples import write
from tests.thorough import THOROUGH

from snowledger_queue import lock_holder

PATIENCE_S = 30

SLOW = "SELECT count(*) AS n FROM events a, events b, events c, events d WHERE a.customer = $customer"
"""Takes minutes with some hundred events, and DuckDB can stop it at any time."""

FINAL = {"succeeded", "failed", "cancelled"}


async def call(client: Client, tool: str, **arguments: object) -> dict[str, Any]:
    """Call a tool, again while its error says that this helps: an uploader that has just begun is not there yet."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            result = await client.call_tool(tool, arguments)
            content: dict[str, Any] = result.structured_content or {}
            if not result.is_error:
                return content
            assert content["retryable"], content
            await anyio.sleep(0.05)


async def finished(client: Client, ticket_id: str) -> dict[str, Any]:
    with anyio.fail_after(2 * PATIENCE_S):
        while True:
            answer = await call(client, "get_result", ticket_id=ticket_id, wait_s=20)
            if answer["status"] in FINAL:
                return answer


async def ask(client: Client, template: str, **arguments: object) -> dict[str, Any]:
    """The result of a query."""
    submitted = await call(client, "submit_query", template=template, **arguments)
    return await finished(client, submitted["ticket_id"])


async def until(client: Client, ticket_id: str, **expected: object) -> None:
    with anyio.fail_after(PATIENCE_S):
        while True:
            answer = await call(client, "get_result", ticket_id=ticket_id)
            if expected.items() <= answer.items():
                return
            assert answer["status"] not in FINAL, answer
            await anyio.sleep(0.02)


async def upload(ledger: Ledger) -> None:
    """Load all that was logged: what a live server has not sealed yet would stay."""
    await anyio.to_thread.run_sync(wait_until, lambda: not ledger.spool.active_segments())
    await anyio.to_thread.run_sync(ledger.run, "upload", "--once")


def import_events(ledger: Ledger, **counts: int) -> None:
    """Put events of half a kilobyte into the queue, so many of each customer and no two alike."""
    path = ledger.folder / "events.ndjson"
    lines = [
        {
            "activity": "cdesk.tool_called",
            "customer": customer,
            "ts": f"2026-11-21T04:{number // 60:02}:{number % 60:02}Z",
            "feature_json": {"tool": "search", "noise": f"{number * 2654435761 % 2**32:08x}" * 60},
        }
        for customer, count in counts.items()
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ledger.run("import", str(path))


@pytest.fixture
def templates(tmp_path: Path) -> str:
    """A folder with a query that takes too long."""
    folder = tmp_path / "templates"
    folder.mkdir()
    write(folder, SLOW, name="slow")
    return str(folder)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_question_is_answered_and_what_was_learnt_from_it_is_verified(ledger: Ledger, mode: str) -> None:
    reports: list[tuple[float, str | None]] = []

    async def report(progress: float, total: float | None, message: str | None) -> None:
        assert total is None
        reports.append((progress, message))

    async with Client(ledger.server("--no-uploader"), mode=mode) as client:
        for number in range(3):
            await call(client, "log_event", activity="cdesk.user_asked", feature_json={"n": number})
        await upload(ledger)
        submitted = await call(client, "submit_query", template="activity_counts", params={"since": "1h"})
        assert (submitted["status"], submitted["reused"], submitted["position"]) == ("queued", False, 0)
        uploader = ledger.start("upload")
        arguments = {"ticket_id": submitted["ticket_id"], "wait_s": 20}
        called = await client.call_tool("get_result", arguments, progress_callback=report)
        answer = called.structured_content
        assert answer is not None
        assert (answer["status"], answer["truncated"]) == ("succeeded", False)
        assert reports[0] == (reports[0][0], "queued, it is the next")
        assert [done for done, _ in reports] == sorted({done for done, _ in reports})
        rows = [dict(zip((column["name"] for column in answer["columns"]), row, strict=True)) for row in answer["rows"]]
        asked = next(row for row in rows if row["activity"] == "cdesk.user_asked")
        assert asked["events"] == 3
        assert answer["row_count"] == len(rows)

        about, file = (await client.read_resource(answer["artifact"])).contents
        assert isinstance(about, types.TextResourceContents)
        assert isinstance(file, types.BlobResourceContents)
        path = Path(json.loads(about.text)["file"])
        assert path.read_bytes() == base64.b64decode(file.blob)
        assert len(path.read_bytes()) == answer["bytes"]
        assert ("cdesk.user_asked", 3) in duckdb.read_parquet(str(path)).project("activity, events").fetchall()

        insight = {"subject": "team", "metric": "questions", "value": 3}
        learnt = await call(client, "log_insight", **insight, provenance_query_hash=answer["query_hash"])
        assert learnt["verified"] is True
        context = await call(client, "get_context")
        assert [found["verified"] for found in context["insights"]] == [True]
        assert [(found["ticket_id"], found["row_count"]) for found in context["tickets"]] == [
            (submitted["ticket_id"], answer["row_count"])
        ]
        aged = await call(client, "submit_query", template="activity_counts", params={"since": 3600}, max_age_s=600)
        assert aged == {**submitted, "reused": True, "status": "succeeded", "position": None}
        # The stream tells of the query itself, and of what rests on it.
        await anyio.to_thread.run_sync(wait_until, lambda: ledger.spool.statistics().events == 0)
        provenance = await ask(client, "provenance", params={"query_hash": answer["query_hash"]})
        activities = [
            row[[column["name"] for column in provenance["columns"]].index("activity")] for row in provenance["rows"]
        ]
        assert activities == [
            *("cdesk.sql_executed", "cdesk.sql_completed", "cdesk.artifact_created", "cdesk.insight_recorded"),
        ]
    uploader.terminate()
    assert uploader.wait(10) == 0, ledger.errors
    assert "Traceback" not in ledger.errors


async def test_a_server_by_itself_sees_to_it_that_queries_are_run(ledger: Ledger) -> None:
    async with Client(ledger.server(), mode="auto") as client:
        answer = await ask(client, "recent_events")
        assert answer["status"] == "succeeded"
    await anyio.to_thread.run_sync(wait_until, lambda: ledger.processes() == [])


def test_queries_run_again_when_state_db_was_deleted_under_an_idle_uploader(ledger: Ledger) -> None:
    import_events(ledger, acme=3)
    ledger.start("upload")
    wait_until(lambda: ledger.home.exists() and ledger.spool.state.exists() and not ledger.queued(), "it is idle")
    for name in ("state.db", "state.db-wal", "state.db-shm"):
        (ledger.home / name).unlink(missing_ok=True)
    assert "cdesk.tool_called" in ledger.run("query", "activity_counts", "since=365d").stdout


async def test_a_result_is_cut_off_at_the_cap_and_says_so(ledger: Ledger) -> None:
    import_events(ledger, acme=900)
    async with Client(ledger.server(), mode="auto") as client:
        await anyio.to_thread.run_sync(wait_until, lambda: ledger.spool.statistics().events == 0)
        params = {"since": "365d", "activity": "cdesk.tool_called", "limit": 1000}
        whole = await ask(client, "recent_events", params=params)
        assert (whole["row_count"], len(whole["rows"]), whole["truncated"]) == (900, 10, False)
        cut = await ask(client, "recent_events", params=params, byte_cap=10_000)
        assert cut["truncated"] is True
        assert 0 < cut["row_count"] < 900
        assert cut["bytes"] <= 10_000 < whole["bytes"]
        assert cut["rows"] == whole["rows"][: len(cut["rows"])]


async def test_a_running_query_is_cancelled_in_the_warehouse_too(ledger: Ledger, templates: str) -> None:
    import_events(ledger, acme=900)
    async with Client(ledger.server(SNOWLEDGER_TEMPLATES_DIR=templates), mode="auto") as client:
        await anyio.to_thread.run_sync(wait_until, lambda: ledger.spool.statistics().events == 0)
        slow = (await call(client, "submit_query", template="slow"))["ticket_id"]
        await until(client, slow, status="running")
        assert (await ask(client, "errors"))["status"] == "succeeded", "others need not wait for it"
        cancelled = await call(client, "cancel_query", ticket_id=slow)
        assert (cancelled["status"], cancelled["cancel_requested"]) == ("running", True)
        with anyio.fail_after(5):
            answer = await finished(client, slow)
        assert (answer["status"], answer["error"]) == ("cancelled", None)
        learnt = await call(
            client, "log_insight", subject="a", metric="b", value=1, provenance_query_hash=answer["query_hash"]
        )
        assert learnt["verified"] is False
    # Nothing runs that would keep the uploader.
    await anyio.to_thread.run_sync(wait_until, lambda: ledger.processes() == [])


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
async def test_a_query_outlives_one_kill_of_the_uploader_and_is_given_up_after_two(
    ledger: Ledger, templates: str
) -> None:
    import_events(ledger, acme=900)
    await upload(ledger)
    environment = {"SNOWLEDGER_TEMPLATES_DIR": templates}
    async with Client(ledger.server("--no-uploader", **environment), mode="auto") as client:
        slow = (await call(client, "submit_query", template="slow"))["ticket_id"]
        first = ledger.start("upload", **environment)
        await until(client, slow, status="running")
        await anyio.to_thread.run_sync(kill, ledger, first)
        small = await call(client, "submit_query", template="errors")
        second = ledger.start("upload", **environment)
        assert (await finished(client, small["ticket_id"]))["status"] == "succeeded"
        await until(client, slow, status="running")  # again, for it was asked for before the other
        await anyio.to_thread.run_sync(kill, ledger, second)
        last = ledger.start("upload", **environment)
        answer = await finished(client, slow)
        assert (answer["status"], answer["error"]) == ("failed", "the uploader was stopped twice while it ran")
        assert (await ask(client, "errors"))["status"] == "succeeded"
    last.terminate()
    assert last.wait(10) == 0, ledger.errors


def kill(ledger: Ledger, uploader: Command) -> None:
    uploader.kill()
    uploader.wait(10)
    wait_until(lambda: lock_holder(ledger.spool.uploader_lock) is None)


@pytest.mark.timeout(240 if THOROUGH else 60)
async def test_queries_of_many_clients_at_once_all_come_right(ledger: Ledger) -> None:
    """Each client is a customer of its own with as many events as its number, and asks several different questions."""
    clients, questions = (20, 10) if THOROUGH else (6, 5)
    import_events(ledger, **{f"c{number}": number + 1 for number in range(clients)})
    await upload(ledger)
    answers: dict[tuple[int, int], dict[str, Any]] = {}
    ready = anyio.Semaphore(0)
    go = anyio.Event()

    async def customer(number: int) -> None:
        parameters = ledger.server("--no-uploader", SNOWLEDGER_CUSTOMER=f"c{number}")
        async with Client(parameters, mode=("auto", "legacy")[number % 2]) as client:
            ready.release()
            await go.wait()
            async with anyio.create_task_group() as asking:
                for which in range(questions):
                    asking.start_soon(question, client, number, which)

    async def question(client: Client, number: int, which: int) -> None:
        params = {"since": 365 * 86_400 + which, "activities": ["cdesk.tool_called"]}
        answers[number, which] = await ask(client, "activity_counts", params=params)

    async with anyio.create_task_group() as tasks:
        for number in range(clients):
            tasks.start_soon(customer, number)
        for _ in range(clients):
            await ready.acquire()
        uploader = ledger.start("upload")
        begun = time.monotonic()
        go.set()
    assert time.monotonic() - begun < 120
    uploader.terminate()
    assert uploader.wait(20) == 0, ledger.errors
    assert len(answers) == clients * questions
    assert len({answer["ticket_id"] for answer in answers.values()}) == clients * questions
    for (number, _), answer in answers.items():
        assert answer["status"] == "succeeded", answer
        row = dict(zip((column["name"] for column in answer["columns"]), answer["rows"][0], strict=True))
        assert (row["activity"], row["events"]) == ("cdesk.tool_called", number + 1)
    assert "Traceback" not in ledger.errors
