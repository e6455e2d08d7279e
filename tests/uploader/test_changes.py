"""What any warehouse has got since a cursor: each row once, and only what contexts need of it."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from tests.uploader.backends import Backend, backend, ready_snowflake
from tests.uploader.uploader_samples import ORIGIN, batch_of, raw_line

from snowledger_queue import Changes, Contribution, Event, contribution, new_event, timestamp, with_checksum
from snowledger_uploader import Warehouse

__all__ = ["backend", "ready_snowflake"]

NOW = datetime.now(UTC)
TODAY = timestamp(NOW)
HOUR = TODAY[:13]


def logged(customer: str | None = "acme", activity: str = "cdesk.user_asked", seconds: float = 0, **more: str) -> Event:
    """An event of today, `seconds` before now."""
    ts = timestamp(NOW - timedelta(seconds=seconds))
    return new_event(ORIGIN, activity=activity, customer=customer, feature_json={"n": 1}, ts=ts, **more)


async def load(warehouse: Warehouse, folder: Path, *events: Event) -> None:
    await warehouse.load(batch_of(folder, [event.line for event in events]))


async def read_all(warehouse: Warehouse, cursor: str | None = None) -> tuple[Changes, int]:
    """Everything after the cursor, and in how many calls."""
    counts: Counter[tuple[str, str, str]] = Counter()
    lines: list[bytes] = []
    calls = 0
    while True:
        found = await warehouse.changes(cursor)
        calls += 1
        for customer, hour, activity, events in found.counts:
            counts[customer, hour, activity] += events
        lines += found.lines
        cursor = found.cursor
        if not found.more:
            return found._replace(counts=sorted((*key, n) for key, n in counts.items()), lines=sorted(lines)), calls


def told(lines: Iterable[bytes]) -> list[Contribution | None]:
    """What the lines add to contexts; a warehouse need not have kept their very bytes."""
    return sorted(map(contribution, lines), key=str)


def lines_of(*events: Event) -> list[bytes]:
    return [event.line for event in events]


async def test_each_call_brings_what_came_since_the_last_one(backend: Backend) -> None:
    first, second, third = logged(), logged("beta"), logged(activity="cdesk.tool_called")
    async with backend.opened() as warehouse:
        empty = await warehouse.changes(None)
        assert (empty.reset, empty.more, empty.counts, empty.lines) == (False, False, [], [])
        await load(warehouse, backend.folder, first, second)
        found = await warehouse.changes(empty.cursor)
        assert sorted(found.counts) == [("acme", HOUR, "cdesk.user_asked", 1), ("beta", HOUR, "cdesk.user_asked", 1)]
        assert told(found.lines) == told(lines_of(first, second))
        assert not found.reset
        assert not found.more
        await load(warehouse, backend.folder, first, third)
        late = await warehouse.changes(found.cursor)
        assert late.counts == [("acme", HOUR, "cdesk.tool_called", 1)]
        assert told(late.lines) == told(lines_of(third))
        nothing = await warehouse.changes(late.cursor)
        assert nothing == Changes(late.cursor, reset=False, more=False, counts=[], lines=[])
        assert (await read_all(warehouse))[0].lines == sorted([*found.lines, *late.lines])


async def test_a_cursor_outlives_the_connection(backend: Backend) -> None:
    async with backend.opened() as warehouse:
        await load(warehouse, backend.folder, logged())
        cursor = (await warehouse.changes(None)).cursor
    async with backend.opened() as warehouse:
        await load(warehouse, backend.folder, logged("beta"))
        found = await warehouse.changes(cursor)
    assert [count[0] for count in found.counts] == ["beta"]
    assert not found.reset


@pytest.mark.parametrize(
    "cursor", ["nonsense", "2026-11-21T05:00:00 batch", "[1]", '["2026-11-21T05:00:00",{"abc":"2026-11-21"},1,null]']
)
async def test_a_cursor_of_something_else_is_a_reset(backend: Backend, cursor: str) -> None:
    async with backend.opened() as warehouse:
        await load(warehouse, backend.folder, logged())
        found = await warehouse.changes(cursor)
    assert found.reset
    assert len(found.lines) == 1


async def test_nobody_s_context_has_snowledger_s_own_and_anonymous_events(backend: Backend) -> None:
    anonymous = logged(None, anonymous_customer_id="web:7")
    known = logged("acme", anonymous_customer_id="web:7", link="https://example.com/1")
    async with backend.opened() as warehouse:
        await load(warehouse, backend.folder, anonymous, known, logged("snowledger"))
        found = await warehouse.changes(None)
    assert found.counts == [("acme", HOUR, "cdesk.user_asked", 1)]
    assert told(found.lines) == told(lines_of(known))


async def test_the_lines_are_the_ten_newest_of_each_customer_and_all_insights(backend: Backend) -> None:
    # Twins in time, so that the id decides.
    events = {name: [logged(name, seconds=n // 2) for n in range(25)] for name in ("acme", "beta")}
    insights = [logged("acme", "cdesk.insight_recorded", seconds=1000 + n) for n in range(15)]
    async with backend.opened() as warehouse:
        await load(warehouse, backend.folder, *events["acme"], *events["beta"], *insights)
        found = await warehouse.changes(None)
    newest = [
        event
        for own in events.values()
        for event in sorted(own, key=lambda event: (event.ts, event.activity_id), reverse=True)[:10]
    ]
    assert told(found.lines) == told(lines_of(*newest, *insights))


async def test_events_are_counted_for_eight_days(backend: Backend) -> None:
    days = [logged(seconds=86_400 * day) for day in (0, 7, 9, 400)]
    async with backend.opened() as warehouse:
        await load(warehouse, backend.folder, *days, logged(seconds=-86_400))
        found = await warehouse.changes(None)
    hours = [timestamp(NOW - timedelta(days=day))[:13] for day in (7, 0, -1)]
    assert [count[1] for count in sorted(found.counts)] == hours
    assert len(found.lines) == 5


@pytest.mark.parametrize("limit", ["CHUNK_ROWS", "CHUNK_BYTES"])
async def test_small_steps_bring_the_same_as_one(backend: Backend, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    async with backend.opened() as warehouse:
        for _ in range(6):
            insights = (logged(name, "cdesk.insight_recorded") for name in ("acme", "beta"))
            await load(warehouse, backend.folder, *insights, logged())
        whole, calls = await read_all(warehouse)
        assert calls == 1
        monkeypatch.setattr(f"snowledger_uploader._{backend.name}._changes.{limit}", 5)
        parts, calls = await read_all(warehouse)
    assert calls == {"CHUNK_ROWS": 3, "CHUNK_BYTES": 6}[limit]
    assert (parts.counts, parts.lines) == (whole.counts, whole.lines)


ODD = [
    "{}",
    "[]",
    "null",
    '"text"',
    "17",
    '{"customer":"odd"}',
    '{"customer":"odd","activity":"cdesk.x"}',
    '{"activity_id":"1","ts":"soon","customer":"odd","activity":"cdesk.x","feature_json":{}}',
    '{"activity_id":"1","ts":"2026-11-21T04:20:47Z","customer":5,"activity":"cdesk.x","feature_json":{}}',
    '{"activity_id":"1","ts":"2026-11-21T04:20:47Z","customer":["odd"],"activity":"cdesk.x","feature_json":{}}',
    '{"activity_id":"1","ts":"2026-11-21T04:20:47Z","customer":"odd","activity":{},"feature_json":{}}',
    '{"activity_id":"1","ts":"2026-11-21T04:20:47Z","customer":"odd","activity":"cdesk.x","feature_json":7}',
    f'{{"activity_id":"{"0" * 32}","ts":"{TODAY}","customer":"acme","feature_json":{{}}}}',
    '{"' + "é" * 60 + '":"","customer":"odd","activity":"cdesk.x"}',
]


async def test_odd_rows_that_somebody_else_inserted_are_left_out(backend: Backend) -> None:
    event = logged()
    async with backend.opened() as warehouse:
        for payload in ODD:
            backend.insert(warehouse, payload)
        await load(warehouse, backend.folder, event)
        found = await warehouse.changes(None)
    assert found.counts == [("acme", HOUR, "cdesk.user_asked", 1)]
    assert told(found.lines) == told(lines_of(event))


async def test_an_event_of_another_form_counts_like_any_other(backend: Backend) -> None:
    payload = (
        '{{ "ts": "{}", "customer": "\\u0061cme", "activity": "cdesk.x", "feature_json": {{}}, "activity_id": "1" }}'
    )
    payload = payload.format(TODAY)
    async with backend.opened() as warehouse:
        backend.insert(warehouse, payload)
        found = await warehouse.changes(None)
    assert found.counts == [("acme", HOUR, "cdesk.x", 1)]
    assert told(found.lines) == told([payload.encode()])


async def test_names_may_have_any_characters(backend: Backend) -> None:
    name = 'Åsa "Q" 東京 \U0001f9ca'
    body = b'{"activity_id":"%032x","ts":"%s","customer":"\\u00c5sa \\"Q\\" %s","activity":"cdesk.x","feature_json":{}}'
    escaped = with_checksum(body % (5, TODAY.encode(), "東京 \U0001f9ca".encode()))
    async with backend.opened() as warehouse:
        await warehouse.load(batch_of(backend.folder, [logged(name, "cdesk.x").line, escaped]))
        found = await warehouse.changes(None)
    assert found.counts == [(name, HOUR, "cdesk.x", 2)]
    assert len(found.lines) == 2


async def test_a_call_may_be_cancelled(backend: Backend) -> None:
    async with backend.opened() as warehouse:
        await warehouse.load(batch_of(backend.folder, [raw_line(number, b'{"n":1}') for number in range(4_000)]))
        whole, _ = await read_all(warehouse)
        for after_s in (0.0, 0.005, 0.02, 0.05):
            with anyio.move_on_after(after_s):
                await warehouse.changes(None)
            await warehouse.open()
            found, _ = await read_all(warehouse)
            assert (found.counts, found.lines) == (whole.counts, whole.lines)
        await load(warehouse, backend.folder, logged())  # no transaction is left open
