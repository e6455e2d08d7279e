"""Contexts follow the warehouse: each event counted once, whatever fails, and loading never waits for it."""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.uploader.fake_warehouse import FakeWarehouse
from tests.uploader.uploader_samples import (
    ORIGIN,
    batch_of,
    context,
    counted,
    drained_stems,
    opened,
    sample_event,
    seal,
)

from snowledger_queue import (
    ContextStore,
    Folded,
    OsFilesystem,
    Spool,
    StateError,
    new_event,
    server_presence,
    timestamp,
)
from snowledger_uploader import Breaker, Contexts, Delivery, Drain, Warehouse, WarehouseUnavailableError

NOW = timestamp(datetime.now(UTC))
ASKED = "cdesk.user_asked"


def lines(count: int, start: int = 0) -> list[bytes]:
    """Events of today."""
    return [sample_event(number, NOW).line for number in range(start, start + count)]


def insight(metric: str, value: object = 1, customer: str = "acme") -> bytes:
    features = {"subject": "churn", "metric": metric, "value": value, "provenance_query_hash": "ab" * 32}
    return new_event(ORIGIN, activity="cdesk.insight_recorded", customer=customer, feature_json=features).line


def contexts(spool: Spool, warehouse: Warehouse, interval_s: float | None = None) -> Contexts:
    return Contexts(spool, warehouse, ORIGIN, anyio.Event(), interval_s)


def drain(spool: Spool, warehouse: Warehouse, subject: Contexts) -> Drain:
    return Drain(spool, warehouse, Delivery(warehouse, anyio.Event(), lambda _problem: None), 5.0, subject)


async def drain_all(spool: Spool, warehouse: Warehouse, subject: Contexts) -> int:
    """Drain until nothing waits; how many batches."""
    working = drain(spool, warehouse, subject)
    batches = 0
    while segments := await working.waiting():
        await working.drain_batch(segments)
        batches += 1
    return batches


def refreshed(warehouse: FakeWarehouse) -> list[dict[str, Any]]:
    """Features of the events `cdesk.context_refreshed` that were loaded."""
    events = [json.loads(line) for line in warehouse.rows.values()]
    return [event["feature_json"] for event in events if event["activity"] == "cdesk.context_refreshed"]


@pytest.fixture
def warehouse() -> FakeWarehouse:
    return FakeWarehouse()


@pytest.fixture
def subject(spool: Spool, warehouse: FakeWarehouse) -> Iterator[Contexts]:
    subject = contexts(spool, warehouse)
    yield subject
    anyio.run(subject.close)


async def test_what_is_loaded_is_in_the_contexts_before_its_segments_are_deleted(
    spool: Spool, warehouse: FakeWarehouse, subject: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = seal(spool, [*lines(3), insight("rate")])
    remove = OsFilesystem.remove
    seen = []

    def look_and_remove(filesystem: OsFilesystem, path: Path) -> None:
        seen.append((path, counted(spool), drained_stems(spool)))
        remove(filesystem, path)

    monkeypatch.setattr(OsFilesystem, "remove", look_and_remove)
    await drain_all(spool, warehouse, subject)
    assert seen[0] == (segment.path, {ASKED: 3, "cdesk.insight_recorded": 1}, {segment.name.stem})
    assert [atom.metric for atom in context(spool).insights] == ["rate"]
    assert subject.as_of == context(spool).as_of
    assert not subject.behind


async def test_a_refresh_that_changed_a_context_leaves_one_event_and_that_leaves_none(
    spool: Spool, warehouse: FakeWarehouse, subject: Contexts
) -> None:
    seal(spool, [*lines(3), insight("rate"), insight("rate", customer="beta")])
    assert await drain_all(spool, warehouse, subject) == 2
    [features] = refreshed(warehouse)
    assert features.pop("ms") >= 0
    assert features == {"reason": "load", "customers": 2, "events": 5, "atoms": 2}
    await subject.refresh("interval")
    assert list(spool.queue.iterdir()) == []


async def test_the_uploader_s_own_events_are_not_counted_as_drained(
    spool: Spool, warehouse: FakeWarehouse, subject: Contexts
) -> None:
    working = drain(spool, warehouse, subject)
    seal(spool, lines(3), 1)
    await working.drain_batch(await working.waiting())
    seal(spool, lines(2, 3), 2)
    mixed = await working.drain_batch(await working.waiting())
    assert (mixed.events, mixed.inserted) == (2, 2)
    own = await working.drain_batch(await working.waiting())
    assert (own.events, own.inserted, own.dead_letters) == (0, 0, 0)
    assert len(refreshed(warehouse)) == 2


async def test_a_batch_that_is_loaded_again_counts_once(
    spool: Spool, warehouse: FakeWarehouse, subject: Contexts
) -> None:
    for sequence in range(3):
        segment = seal(spool, lines(4), sequence)
        await drain_all(spool, warehouse, subject)
        assert segment.name.stem in drained_stems(spool)
    assert counted(spool) == {ASKED: 4}


async def test_a_warehouse_that_cannot_say_what_is_new_keeps_nothing_from_being_loaded(
    spool: Spool, warehouse: FakeWarehouse, subject: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise WarehouseUnavailableError("the warehouse is busy")

    warehouse.on_changes = fail
    for sequence in range(3):
        seal(spool, lines(2, sequence * 2), sequence)
        await drain_all(spool, warehouse, subject)
        assert list(spool.queue.iterdir()) == []
        assert subject.behind
        assert subject.problem == "the warehouse is busy"
    assert caplog.text.count("the warehouse is busy") == 1
    assert "Traceback" not in caplog.text
    warehouse.on_changes = lambda: None
    await subject.refresh("interval")
    assert not subject.behind
    assert counted(spool) == {ASKED: 6}


async def test_a_full_disk_under_the_contexts_keeps_nothing_from_being_loaded(
    spool: Spool, warehouse: FakeWarehouse, subject: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise StateError("database or disk is full", transient=True)

    seal(spool, lines(1), 1)
    await drain_all(spool, warehouse, subject)
    before = spool.state.stat().st_ino
    with monkeypatch.context() as patch:
        patch.setattr(ContextStore, "fold", fail)
        seal(spool, lines(3, 1), 2)
        await drain_all(spool, warehouse, subject)
    assert list(spool.queue.iterdir()) == []
    assert subject.problem == "database or disk is full"
    await subject.refresh("interval")
    assert counted(spool) == {ASKED: 4}
    assert spool.state.stat().st_ino == before


async def test_an_error_that_nobody_foresaw_keeps_nothing_from_being_loaded_and_is_traced(
    spool: Spool, warehouse: FakeWarehouse, subject: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise LookupError("what is this?")

    warehouse.on_changes = fail
    seal(spool, lines(2))
    await drain_all(spool, warehouse, subject)
    assert list(spool.queue.iterdir()) == []
    assert subject.behind
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("damage", ["deleted", "garbage", "cut short", "garbage under the open file"])
async def test_a_lost_or_damaged_state_is_rebuilt_from_the_warehouse(
    spool: Spool, warehouse: FakeWarehouse, damage: str
) -> None:
    subject = contexts(spool, warehouse)
    seal(spool, [*lines(5), insight("rate")], 1)
    await drain_all(spool, warehouse, subject)
    if damage != "garbage under the open file":
        await subject.close()
    match damage:
        case "deleted":
            spool.state.unlink()
        case "cut short":
            os.truncate(spool.state, 5000)
        case _:
            spool.state.write_bytes(b"\xff" * spool.state.stat().st_size)
    seal(spool, lines(2, 5), 2)
    await drain_all(spool, warehouse, subject)
    context(spool)  # a server may be the first to see the damage
    await subject.refresh("request")
    await subject.close()
    assert not subject.behind
    assert counted(spool) == {ASKED: 7, "cdesk.insight_recorded": 1}
    assert len(context(spool).insights) == 1


async def test_a_state_that_is_deleted_under_the_open_one_is_rebuilt_and_called_so(
    spool: Spool, warehouse: FakeWarehouse, subject: Contexts
) -> None:
    seal(spool, lines(5))
    await drain_all(spool, warehouse, subject)
    for path in spool.home.glob("state.db*"):
        path.unlink()
    await subject.refresh("request")
    assert counted(spool) == {ASKED: 5}
    await drain_all(spool, warehouse, subject)
    assert [features["reason"] for features in refreshed(warehouse)] == ["load", "rebuild"]


async def test_damage_that_shows_while_folding_is_mended_at_once(
    spool: Spool, warehouse: FakeWarehouse, subject: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = ContextStore.fold
    failures = ["database disk image is malformed"]

    def fail_once(store: ContextStore, *arguments: Any) -> Folded:
        if failures:
            spool.state.replace(spool.home / "state.db.bad")
            raise StateError(failures.pop(), transient=False)
        return fold(store, *arguments)

    seal(spool, lines(3), 1)
    await drain_all(spool, warehouse, subject)
    monkeypatch.setattr(ContextStore, "fold", fail_once)
    seal(spool, lines(2, 3), 2)
    await drain_all(spool, warehouse, subject)
    assert failures == []
    assert not subject.behind
    assert counted(spool) == {ASKED: 5}
    assert [features["reason"] for features in refreshed(warehouse)] == ["load", "rebuild"]


@pytest.mark.parametrize("part", [1, 20_000])
async def test_another_warehouse_s_contexts_replace_those_of_the_old_one(
    spool: Spool, warehouse: FakeWarehouse, subject: Contexts, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr("snowledger_uploader._contexts.FOLD_LINES", part)
    seal(spool, [*lines(2), insight("a"), insight("b"), *lines(3, 2)])
    await drain_all(spool, warehouse, subject)
    warehouse.rows = dict(list(warehouse.rows.items())[:4])
    await subject.refresh("interval")
    assert counted(spool) == {ASKED: 2, "cdesk.insight_recorded": 2}
    assert len(context(spool).insights) == len(context(spool).recent) == 2
    await drain_all(spool, warehouse, subject)
    assert refreshed(warehouse)[-1]["reason"] == "rebuild"


async def test_an_event_that_cannot_be_left_is_only_missing(
    spool: Spool, warehouse: FakeWarehouse, subject: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    seal(spool, lines(3))
    monkeypatch.setattr(OsFilesystem, "create", fail)
    assert await drain_all(spool, warehouse, subject) == 1
    assert counted(spool) == {ASKED: 3}
    assert not subject.behind


async def test_cancelling_a_refresh_ends_it(
    subject: Contexts, warehouse: FakeWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_cursor: str | None) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(warehouse, "changes", hang)
    with anyio.move_on_after(0.05) as scope:
        await subject.refresh("interval")
    assert scope.cancelled_caught


@pytest.mark.parametrize("parts", ["chunks", "lines"])
async def test_contexts_that_are_folded_in_parts_equal_those_folded_at_once(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: str
) -> None:
    async with opened(tmp_path / "warehouse.duckdb") as real:
        for number in range(8):
            batch = [*lines(3, number * 3), insight("rate", number), insight(f"m{number}"), insight("x", customer="b")]
            await real.load(batch_of(tmp_path, batch))
        whole = contexts(spool, real)
        await whole.refresh("interval")
        await whole.close()
        before = [replace(context(spool, customer), as_of=None) for customer in ("acme", "b")]
        spool.state.unlink()
        name = {"chunks": "_duckdb._changes.CHUNK_ROWS", "lines": "_contexts.FOLD_LINES"}[parts]
        monkeypatch.setattr(f"snowledger_uploader.{name}", 4)
        again = contexts(spool, real)
        await again.refresh("interval")
        await again.close()
    assert [replace(context(spool, customer), as_of=None) for customer in ("acme", "b")] == before
    assert len(before[0].insights) == 9
    assert counted(spool)[ASKED] == 24


async def test_a_long_rebuild_stops_when_told_and_goes_on_later(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snowledger_uploader._duckdb._changes.CHUNK_ROWS", 4)
    async with opened(tmp_path / "warehouse.duckdb") as real:
        for number in range(4):
            await real.load(batch_of(tmp_path, lines(3, number * 3)))
        stop = anyio.Event()
        stop.set()
        stopped = Contexts(spool, real, ORIGIN, stop, None)
        await stopped.refresh("interval")
        await stopped.close()
        assert stopped.behind
        assert context(spool).as_of is None
        subject = contexts(spool, real)
        await subject.refresh("interval")
        await subject.close()
    assert counted(spool) == {ASKED: 12}
    assert context(spool).as_of == subject.as_of is not None


async def test_it_is_due_at_the_start_on_request_and_when_something_failed(
    spool: Spool, warehouse: FakeWarehouse, subject: Contexts
) -> None:
    def fail() -> None:
        raise WarehouseUnavailableError("the warehouse is busy")

    subject._breaker = Breaker(max_pause_s=0.0)
    assert subject.due() == "interval"
    await subject.refresh("interval")
    assert subject.due() is None
    spool.request_refresh()
    assert subject.due() == "request"
    assert subject.due() is None
    spool.request_refresh()
    await subject.refresh("load")
    assert subject.due() is None  # a refresh answers those who asked before it
    warehouse.on_changes = fail
    await subject.refresh("interval")
    assert subject.behind
    for pause_s in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):  # longer after each failure in a row
        subject._refreshed_at -= pause_s - 1
        assert subject.due() is None
        subject._refreshed_at -= 1
        assert subject.due() == "interval"
        await subject.refresh("interval")


async def test_it_is_due_at_intervals_while_a_server_lives(spool: Spool, warehouse: FakeWarehouse) -> None:
    subject = contexts(spool, warehouse, 0.0)
    await subject.refresh("interval")
    assert subject.due() is None
    with server_presence(spool):
        assert subject.due() == "interval"
    never = contexts(spool, warehouse, None)
    await never.refresh("interval")
    with server_presence(spool):
        assert never.due() is None
    await subject.close()
    await never.close()


async def test_a_request_that_cannot_be_taken_is_no_request(spool: Spool, subject: Contexts) -> None:
    spool.refresh_request.mkdir()
    await subject.refresh("interval")
    assert subject.due() is None
    assert not subject.behind


async def test_a_first_load_is_not_called_a_rebuild(
    spool: Spool, warehouse: FakeWarehouse, subject: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    seal(spool, lines(1))
    await drain_all(spool, warehouse, subject)
    assert [features["reason"] for features in refreshed(warehouse)] == ["load"]
    assert "contexts: 1 customers, 1 events, 0 insights (load)" in caplog.text
