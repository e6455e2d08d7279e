"""What one client learnt the next one recalls: over server processes, uploads, kills and a lost state.db."""

import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from mcp import Client
from tests.acceptance.ledger import Ledger, wait_until

HASH = "ab" * 32


def insight(value: object, metric: str = "mrr_usd") -> dict[str, Any]:
    return {"subject": "customer/acme", "metric": metric, "value": value, "provenance_query_hash": HASH}


async def call(client: Client, tool: str, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    content: dict[str, Any] = result.structured_content or {}
    return content


def values(context: dict[str, Any]) -> dict[str, Any]:
    """Values by metric."""
    return {found["metric"]: found["value"] for found in context["insights"]}


async def recalled(client: Client) -> dict[str, Any]:
    return values(await call(client, "get_context"))


async def eventually_fresh(client: Client, **expected: object) -> None:
    """Ask again and again until the context is not stale and has these values."""
    with anyio.fail_after(20):
        while True:
            context = await call(client, "get_context")
            if not context["stale"] and values(context) == expected:
                return
            await anyio.sleep(0.02)


async def upload(ledger: Ledger) -> None:
    await anyio.to_thread.run_sync(ledger.run, "upload", "--once")


async def test_what_one_server_logs_another_reads_before_and_after_the_upload(ledger: Ledger) -> None:
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(Client(ledger.server("--no-uploader"), mode=mode))
            for mode in ("legacy", "auto")
        ]
        await call(first, "log_insight", **insight(1))
        assert await recalled(second) == {"mrr_usd": 1}
        await call(second, "log_insight", **insight(2))
        await call(second, "log_insight", **insight("up", "trend"))
        assert await recalled(first) == await recalled(second) == {"mrr_usd": 2, "trend": "up"}
        await call(first, "log_event", activity="cdesk.user_asked", feature_json={"q": "why?"})
        assert (await call(second, "get_context"))["stale"] is True, "nothing was ever compared with the warehouse"

        await upload(ledger)
        for client in (first, second):
            context = await call(client, "get_context")
            assert values(context) == {"mrr_usd": 2, "trend": "up"}
            assert context["stale"] is False
            counts = {found["activity"]: found["last_24_h"] for found in context["activity_counts"]}
            assert counts == {"cdesk.insight_recorded": 3, "cdesk.user_asked": 1}
            assert [found["feature_json"] for found in context["recent_events"]] == [{"q": "why?"}]
        # A correction of what the warehouse holds, again before any upload.
        await call(first, "log_insight", **insight(3))
        assert await recalled(second) == {"mrr_usd": 3, "trend": "up"}


async def test_with_a_running_uploader_nothing_flickers(ledger: Ledger) -> None:
    """While insights move from the queue into the warehouse, every answer has the last value, and counts are exact."""
    async with Client(ledger.server(), mode="legacy") as writer, Client(ledger.server(), mode="auto") as reader:
        for number in range(1, 101):
            await call(writer, "log_insight", **insight(number))
            context = await call(reader, "get_context")
            assert [found["value"] for found in context["insights"]] == [number]
            assert context["activity_counts"] == [
                {"activity": "cdesk.insight_recorded", "last_24_h": number, "last_7_d": number}
            ]
            await anyio.sleep(0.02)  # so that it takes several drains
        await eventually_fresh(reader, mrr_usd=100)
    await anyio.to_thread.run_sync(wait_until, lambda: ledger.processes() == [])
    batches = ledger.rows("SELECT count(DISTINCT _batch_id) FROM activities.raw_events")
    assert batches[0][0] > 1
    refreshed = "SELECT sum((feature_json ->> 'events')::INT) FROM activities.events WHERE activity = ?"
    assert ledger.rows(refreshed, "cdesk.context_refreshed") == [(100,)]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
async def test_an_insight_acknowledged_before_a_kill_is_there_after_the_restart(ledger: Ledger) -> None:
    for round_number in range(3):
        # By its command line the process is found.
        async with Client(ledger.new_server("--no-uploader", "--home", str(ledger.home)), mode="auto") as client:
            await call(client, "log_insight", **insight(round_number))
            [server] = ledger.processes("serve")
            server.send_signal(signal.SIGKILL)
            server.wait(10)
        async with Client(ledger.server("--no-uploader"), mode="auto") as client:
            assert await recalled(client) == {"mrr_usd": round_number}
        if round_number == 1:
            await upload(ledger)
    async with Client(ledger.server("--no-uploader"), mode="auto") as client:
        counts = (await call(client, "get_context"))["activity_counts"]
        assert [found["last_7_d"] for found in counts] == [3]


@pytest.mark.parametrize("harm", ["deleted", "garbage", "emptied"])
async def test_a_lost_state_is_rebuilt_and_no_call_fails(ledger: Ledger, harm: str) -> None:
    async with Client(ledger.server(), mode="auto") as client:
        await call(client, "log_insight", **insight(1))
        await eventually_fresh(client, mrr_usd=1)
        # Drained: from here on only state.db and the warehouse know it.
        await anyio.to_thread.run_sync(wait_until, lambda: ledger.spool.statistics().events == 0)
        state = ledger.spool.state
        if harm == "deleted":
            for name in ("state.db", "state.db-wal", "state.db-shm"):
                (ledger.home / name).unlink(missing_ok=True)
        else:
            state.write_bytes(b"no database at all\n" * 4096 if harm == "garbage" else b"")
        await call(client, "log_insight", **insight(2, "churn"))
        assert (await recalled(client))["churn"] == 2
        await eventually_fresh(client, mrr_usd=1, churn=2)
    assert "Traceback" not in (ledger.home / "uploader.log").read_text()
