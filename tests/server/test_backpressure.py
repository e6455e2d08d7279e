"""What the tools answer while too much waits: sampled, refused, and as ever again."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from tests.acceptance.ledger import wait_until
from tests.server.query_samples import QUERY
from tests.server.server_samples import EVENT, INSIGHT, LIMITS, Connected, connected, text

from snowledger_queue import OsFilesystem, PressureLimits, Spool
from snowledger_server import _journal

FEW = replace(LIMITS, events=5)
TELEMETRY: dict[str, Any] = {"activity": "cdesk.tool_called", "feature_json": {"tool": "search", "ok": True}}
SAMPLING = {"state": "sampling", "reason": "events", "sample_rate": 0.1}


class Disk(OsFilesystem):
    """A disk whose free space is said, and whose folders cannot be listed on demand."""

    def __init__(self) -> None:
        self.left = 2**40
        self.broken = False

    def free(self, folder: Path) -> int:  # noqa: ARG002 - the protocol
        return self.left

    def names(self, folder: Path) -> list[str]:
        if self.broken:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return super().names(folder)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def spool(spool: Spool, disk: Disk) -> Spool:
    return replace(spool, filesystem=disk)


@pytest.fixture(autouse=True)
def _looks_come_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    """In between a server adds exactly what it took; a look estimates the events of active segments."""
    monkeypatch.setattr(_journal, "LOOK_S", 3600)


async def log(server: Connected, count: int, arguments: dict[str, Any] = EVENT) -> list[dict[str, Any]]:
    return [await server.ok("log_event", arguments) for _ in range(count)]


async def refused_after(server: Connected, arguments: dict[str, Any]) -> int:
    """How many calls were answered before the first that was refused."""
    for answered in range(100):
        result = await server.client.call_tool("log_event", arguments)
        if result.is_error:
            return answered
    pytest.fail("nothing is refused")


async def looked(server: Connected) -> str:
    await server.journal.look()
    return server.journal.pressure.state


async def told(server: Connected, count: int) -> list[dict[str, Any]]:
    """What the events ``cdesk.backpressure`` say, once there are so many."""

    def found() -> list[dict[str, Any]]:
        return [one for one in server.events() if one["activity"] == "cdesk.backpressure"]

    await to_thread.run_sync(wait_until, lambda: len(found()) >= count)
    assert {(one["customer"], one["_source_system"]) for one in found()} == {("snowledger", "snowledger")}
    return [one["feature_json"] for one in found()]


def drain(spool: Spool) -> None:
    for path in [*spool.active_segments(), *(found.path for found in spool.sealed_segments())]:
        path.unlink()


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_past_the_first_mark_telemetry_is_sampled_and_all_else_is_kept(spool: Spool, mode: str) -> None:
    async with connected(spool, mode, limits=replace(FEW, events=100)) as server:
        before = await log(server, 100)
        assert not any("backpressure" in answer for answer in before)
        assert [answer["backpressure"] for answer in await log(server, 1)] == [SAMPLING]
        answers = await log(server, 60, TELEMETRY)
        failed = await server.ok("log_event", {**TELEMETRY, "feature_json": {"ok": False}})
        paid = await server.ok("log_event", {**TELEMETRY, "revenue_impact": 1})
        insight = await server.ok("log_insight", INSIGHT)
        assert insight["backpressure"] == SAMPLING
        events = {one["activity_id"]: one for one in server.events()}
    left_out = [answer["event_id"] for answer in answers if answer.get("sampled_out")]
    kept = [answer["event_id"] for answer in answers if "sampled_out" not in answer]
    assert 40 < len(left_out) < 60
    assert not events.keys() & set(left_out)
    assert {events[one]["_sample_rate"] for one in kept} <= {0.1}
    for whole in (failed, paid, insight, before[0]):
        assert "_sample_rate" not in events[whole["event_id"]]
        assert "sampled_out" not in whole


async def test_a_repeated_key_is_decided_as_the_first_time(spool: Spool) -> None:
    async with connected(spool, "auto", limits=FEW) as server:
        await log(server, 6)
        keyed = [{**TELEMETRY, "idempotency_key": f"key {number}"} for number in range(30)]
        # Also by another server, and while there is less pressure.
        first = [await server.ok("log_event", arguments) for arguments in keyed]
        async with connected(spool, "auto", limits=replace(FEW, events=6)) as other:
            again = [await other.ok("log_event", arguments) for arguments in keyed]
    assert {answer.get("sampled_out", False) for answer in first} == {True, False}
    assert [(one["event_id"], one.get("sampled_out")) for one in first] == [
        (one["event_id"], one.get("sampled_out")) for one in again
    ]


async def test_past_the_second_mark_all_is_refused_until_there_is_room_and_each_change_is_told_once(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_journal, "LOOK_S", 0.02)
    event = {**EVENT, "feature_json": {"text": "x" * 6_000}}
    async with connected(spool, "auto", limits=replace(LIMITS, max_bytes=20_000)) as server:
        await log(server, 2, event)
        [entered] = await told(server, 1)
        assert await refused_after(server, event) in {1, 2, 3}, (
            "a look that runs beside a call counts it twice or later"
        )
        for tool, arguments in (("log_event", EVENT), ("log_event", TELEMETRY), ("log_insight", INSIGHT)):
            result = await server.client.call_tool(tool, arguments)
            content = result.structured_content
            assert result.is_error
            assert content is not None
            assert content["retryable"] is True
            assert 1 <= content["retry_after_s"] <= 60
            assert content["error"].startswith("the queue is full: ")
            assert content["error"].endswith(" bytes wait to be loaded, over 20,000 bytes (max_queue_bytes)")
            assert f"Nothing was stored. Repeat the call unchanged in {content['retry_after_s']} s." in text(result)
        [_, refusing] = await told(server, 2)
        drain(spool)
        [left] = await told(server, 1)
        assert "backpressure" not in await server.ok("log_event", EVENT)
        await server.journal.look()
        assert len(await told(server, 1)) == 1
    assert [one["previous_state"] for one in (entered, refusing, left)] == ["normal", "sampling", "refusing"]
    assert [one["state"] for one in (entered, refusing, left)] == ["sampling", "refusing", "normal"]
    assert [one["sample_rate"] for one in (entered, refusing, left)] == [0.1, None, None]
    assert refusing["refused"] + left["refused"] == 1 + 3


async def test_wrong_arguments_are_told_first(spool: Spool) -> None:
    async with connected(spool, "auto", limits=replace(FEW, events=1)) as server:
        for state, count in (("sampling", 2), ("refusing", 1)):
            await log(server, count)
            assert server.journal.pressure.state == state
            for wrong in ("other.thing", ["cdesk.tool_called"]):
                said, retryable = await server.refused("log_event", {**EVENT, "activity": wrong})
                assert (said.startswith("activity: "), retryable) == (True, False)


@pytest.mark.usefixtures("runner")
async def test_below_the_disk_s_reserve_tickets_are_refused_too_and_reading_goes_on(spool: Spool, disk: Disk) -> None:
    async with connected(spool, "auto") as server:
        await server.ok("log_event", EVENT)
        disk.left = 3 * 1024**2
        assert await looked(server) == "refusing"
        for tool, arguments in (("log_event", EVENT), ("log_insight", INSIGHT), ("submit_query", QUERY)):
            said, retryable = await server.refused(tool, arguments)
            assert said.startswith("the disk is nearly full: 3.0 MiB are free, and 256.0 MiB are kept (min_free_disk)")
            assert retryable
        assert (await server.ok("get_context", {}))["activity_counts"]
        disk.left = 2 * LIMITS.min_free_bytes
        assert await looked(server) == "normal"
        await server.ok("submit_query", QUERY)


@pytest.mark.usefixtures("runner")
async def test_a_full_queue_does_not_keep_a_query_from_being_asked(spool: Spool) -> None:
    async with connected(spool, "auto", limits=replace(FEW, events=1)) as server:
        await log(server, 3)
        await server.refused("log_event", EVENT)
        await server.ok("submit_query", QUERY)


async def test_when_nobody_can_look_the_server_works_as_without_limits(
    spool: Spool, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(spool, "auto", limits=FEW) as server:
        await log(server, 11)
        assert server.journal.pressure.state == "refusing"
        disk.broken = True
        assert [await looked(server), await looked(server)] == ["normal", "normal"]
        await log(server, 3)
        disk.broken = False
        assert await looked(server) == "refusing"
    said = [record.message for record in caplog.records if "how full the queue is" in record.message]
    assert [text.split(":")[0] for text in said] == [
        "cannot see how full the queue is, so no limit holds",
        "how full the queue is can be seen again",
    ]


async def test_a_server_that_starts_on_a_full_queue_knows_it_at_once(spool: Spool) -> None:
    async with connected(spool, "auto") as server:
        await log(server, 11)
    async with connected(spool, "auto", limits=FEW) as server:
        await server.refused("log_event", EVENT)


def test_the_limits_have_the_promised_defaults() -> None:
    assert PressureLimits() == PressureLimits(50 * 1024**2, 100_000, 120.0, 256 * 1024**2)
