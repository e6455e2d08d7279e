"""A queue that fills up and a disk that does: the real server samples, refuses, and takes events again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from mcp import Client
from tests.acceptance.ledger import Ledger, wait_until
from tests.torture.disks import small_disk

from snowledger_queue import open_spool

EVENT: dict[str, Any] = {"activity": "cdesk.user_asked", "feature_json": {"question": "why?" * 500}}
TELEMETRY: dict[str, Any] = {"activity": "cdesk.tool_called", "feature_json": {"tool": "search", "ok": True}}
TOLD = """
    SELECT feature_json ->> 'previous_state', feature_json ->> 'state' FROM activities.events
    WHERE activity = 'cdesk.backpressure' ORDER BY ts
"""


async def log(client: Client, arguments: dict[str, Any] = EVENT) -> dict[str, Any]:
    """The structured content of an answer or an error; an id once it is durable."""
    result = await client.call_tool("log_event", arguments)
    assert result.structured_content is not None
    assert bool(result.is_error) == ("error" in result.structured_content)
    answer: dict[str, Any] = result.structured_content
    return answer


async def fill(client: Client, state: str, pause_s: float = 0.01) -> list[str]:
    """Log until the answers say so; the ids of what is durable."""
    acked: list[str] = []
    for _ in range(400):
        answer = await log(client)
        if "error" in answer:
            assert state == "refusing"
            assert answer["retryable"]
            assert answer["retry_after_s"] >= 1
            return acked
        acked.append(answer["event_id"])
        if answer.get("backpressure", {}).get("state") == state:
            return acked
        await anyio.sleep(pause_s)
    pytest.fail(f"never {state}")


async def until(client: Client, state: str | None) -> list[str]:
    """Log until an answer has this state; the ids of what was taken meanwhile."""
    acked: list[str] = []
    for _ in range(200):
        answer = await log(client, {**TELEMETRY, "revenue_impact": 1})
        if "error" not in answer:
            acked.append(answer["event_id"])
            if answer.get("backpressure", {}).get("state") == state:
                return acked
        await anyio.sleep(0.1)  # sooner than it was told
    pytest.fail(f"never {state}")


def pressure(ledger: Ledger) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ledger.run("status", "--json").stdout)["queue"]["pressure"]
    return found


def all_sealed(ledger: Ledger) -> bool:
    try:
        return not any(path.stat().st_size for path in open_spool(ledger.home).active_segments())
    except FileNotFoundError:
        return False  # just sealed; look again


async def test_two_servers_fill_one_queue_and_go_on_once_the_uploader_has_drained_it(ledger: Ledger) -> None:
    ledger.environment["MAX_QUEUE_SIZE"] = "60000"
    async with Client(ledger.server("--no-uploader")) as one, Client(ledger.server("--no-uploader")) as other:
        acked = await fill(one, "sampling")
        acked += await until(other, "sampling")
        answers = [await log(other, {**TELEMETRY, "idempotency_key": str(number)}) for number in range(30)]
        left_out = {answer["event_id"] for answer in answers if answer.get("sampled_out")}
        assert len(left_out) > 15
        acked += [answer["event_id"] for answer in answers if not answer.get("sampled_out")]
        acked += await fill(one, "refusing")
        await to_thread.run_sync(wait_until, lambda: pressure(ledger)["state"] == "refusing")
        assert "wait to be loaded" in pressure(ledger)["problem"]
        # What is not sealed yet would be left, and alone be past the first mark.
        await to_thread.run_sync(wait_until, lambda: all_sealed(ledger))
        await to_thread.run_sync(lambda: ledger.run("upload", "--once"))
        for client in (one, other):
            acked += await until(client, None)
    ledger.run("upload", "--once")
    delivered = dict(ledger.delivered())
    assert set(delivered) == set(acked)
    assert not left_out & set(delivered)
    sampled = {name for name, event in delivered.items() if "_sample_rate" in event}
    assert sampled == {answer["event_id"] for answer in answers} - left_out
    told = ledger.rows(TOLD)
    assert {("normal", "sampling"), ("refusing", "normal")} <= set(told)
    # Each server tells each of its changes once: up at most twice and down at most twice.
    assert len(told) <= 8


async def test_below_the_reserve_calls_are_refused_before_the_disk_is_full_and_go_on_with_space(tmp_path: Path) -> None:
    reserve = 8 * 1024**2
    with small_disk(tmp_path / "small", "size=24m") as disk:
        ledger = Ledger(tmp_path, disk / "spool")
        # The warehouse is elsewhere: what is drained makes space.
        ledger.warehouse = tmp_path / "warehouse.duckdb"
        ledger.environment |= {
            "SNOWLEDGER_MIN_FREE_DISK": str(reserve),
            "SNOWLEDGER_DUCKDB_PATH": str(ledger.warehouse),
        }
        filler = disk / "filler"
        try:
            async with Client(ledger.server("--no-uploader")) as client:
                acked = [(await log(client))["event_id"]]
                with filler.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - reserve - 64 * 1024)
                await to_thread.run_sync(wait_until, lambda: pressure(ledger)["free_bytes"] < reserve + 128 * 1024)
                # What others write the server sees within a second: until then so few calls do not use up what is free.
                acked += await fill(client, "refusing", pause_s=0.05)
                refused = await log(client)
                assert refused["error"].startswith("the disk is nearly full: ")
                assert (await client.call_tool("submit_query", {"template": "activity_counts"})).is_error
                assert not (await client.call_tool("get_context", {})).is_error
                assert shutil.disk_usage(disk).free > reserve - 64 * 1024
                # A disk counts in pages and the server in bytes, so it may still have a page more than the reserve.
                (disk / "pages").write_bytes(bytes(64 * 1024))
                assert pressure(ledger)["reason"] == "disk"
                filler.unlink()
                acked += await until(client, None)
            ledger.run("upload", "--once")
            assert {name for name, _ in ledger.delivered()} == set(acked)
            assert ledger.dead_letters() == []
        finally:
            ledger.close()
