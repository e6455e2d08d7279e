"""What a DuckDB file has got since a cursor: each row once, and only what contexts need of it."""

import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import duckdb
import pytest
from tests.uploader.uploader_samples import ORIGIN, batch_of, opened, raw_line, rows, sample_event

from snowledger_queue import Changes, Event, new_event, timestamp, with_checksum
from snowledger_uploader import DuckDBWarehouse

NOW = datetime.now(UTC)
TODAY = timestamp(NOW)
HOUR = TODAY[:13]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


def logged(customer: str | None = "acme", activity: str = "cdesk.user_asked", seconds: float = 0, **more: str) -> Event:
    """An event of today, `seconds` before now."""
    ts = timestamp(NOW - timedelta(seconds=seconds))
    return new_event(ORIGIN, activity=activity, customer=customer, feature_json={"n": 1}, ts=ts, **more)


async def load(warehouse: DuckDBWarehouse, folder: Path, *events: Event) -> None:
    await warehouse.load(batch_of(folder, [event.line for event in events]))


async def read_all(warehouse: DuckDBWarehouse, cursor: str | None = None) -> tuple[Changes, int]:
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


async def test_each_call_brings_what_came_since_the_last_one(path: Path, tmp_path: Path) -> None:
    first, second, third = logged(), logged("beta"), logged(activity="cdesk.tool_called")
    async with opened(path) as warehouse:
        empty = await warehouse.changes(None)
        assert (empty.reset, empty.more, empty.counts, empty.lines) == (False, False, [], [])
        await load(warehouse, tmp_path, first, second)
        found = await warehouse.changes(empty.cursor)
        assert sorted(found.counts) == [("acme", HOUR, "cdesk.user_asked", 1), ("beta", HOUR, "cdesk.user_asked", 1)]
        assert sorted(found.lines) == sorted(event.line.rstrip(b"\n") for event in (first, second))
        assert not found.reset
        assert not found.more
        await load(warehouse, tmp_path, first, third)
        late = await warehouse.changes(found.cursor)
        assert late.counts == [("acme", HOUR, "cdesk.tool_called", 1)]
        assert late.lines == [third.line.rstrip(b"\n")]
        nothing = await warehouse.changes(late.cursor)
        assert nothing == Changes(late.cursor, reset=False, more=False, counts=[], lines=[])
        assert (await read_all(warehouse))[0].lines == sorted([*found.lines, *late.lines])


async def test_a_cursor_outlives_the_connection(path: Path, tmp_path: Path) -> None:
    async with opened(path) as warehouse:
        await load(warehouse, tmp_path, logged())
        cursor = (await warehouse.changes(None)).cursor
    async with opened(path) as warehouse:
        await load(warehouse, tmp_path, logged("beta"))
        found = await warehouse.changes(cursor)
    assert [count[0] for count in found.counts] == ["beta"]
    assert not found.reset


@pytest.mark.parametrize("by", ["deletion", "an older copy", "another ledger"])
async def test_a_file_that_lacks_the_cursor_s_batch_is_read_from_its_start(path: Path, tmp_path: Path, by: str) -> None:
    copy = tmp_path / "copy.duckdb"
    async with opened(path) as warehouse:
        await load(warehouse, tmp_path, logged("old"))
        await warehouse.close()
        shutil.copy(path, copy)
        await warehouse.open()
        await load(warehouse, tmp_path, logged("new"))
        cursor = (await warehouse.changes(None)).cursor
        await warehouse.close()
        path.unlink()
        if by == "an older copy":
            copy.replace(path)
        await warehouse.open()
        if by == "another ledger":
            await load(warehouse, tmp_path, logged("other"))
        found = await warehouse.changes(cursor)
    assert found.reset
    assert [count[0] for count in found.counts] == {"an older copy": ["old"], "another ledger": ["other"]}.get(by, [])
    assert found.cursor != cursor


@pytest.mark.parametrize("cursor", ["nonsense", "2026-11-21T05:00:00 batch", "2026-99-99 x"])
async def test_a_cursor_of_something_else_is_a_reset(path: Path, tmp_path: Path, cursor: str) -> None:
    async with opened(path) as warehouse:
        await load(warehouse, tmp_path, logged())
        found = await warehouse.changes(cursor)
    assert found.reset
    assert len(found.lines) == 1


async def test_every_batch_is_later_than_the_last_whatever_the_clock_does(path: Path, tmp_path: Path) -> None:
    async with opened(path) as warehouse:
        # Somebody's clock was a year ahead.
        warehouse._require().execute(
            "INSERT INTO activities.raw_events VALUES ('x', '{}', 'b', now()::TIMESTAMP + INTERVAL 1 YEAR)"
        )
        seen = (await warehouse.changes(None)).cursor
        for number in range(3):
            batch = batch_of(tmp_path, [sample_event(number).line])
            receipt = await warehouse.load(batch)
            assert await warehouse.find_receipt(batch.batch_id) == receipt
            found = await warehouse.changes(seen)
            assert len(found.lines) == 1
            seen = found.cursor
    moments = rows(path, "SELECT DISTINCT _loaded_at FROM activities.raw_events ORDER BY 1")
    assert len(moments) == 4
    assert receipt.loaded_at == timestamp(moments[-1][0])


async def test_nobody_s_context_has_snowledger_s_own_and_anonymous_events(path: Path, tmp_path: Path) -> None:
    anonymous = logged(None, anonymous_customer_id="web:7")
    known = logged("acme", anonymous_customer_id="web:7")
    async with opened(path) as warehouse:
        await load(warehouse, tmp_path, anonymous, known, logged("snowledger"))
        found = await warehouse.changes(None)
    assert found.counts == [("acme", HOUR, "cdesk.user_asked", 1)]
    assert found.lines == [known.line.rstrip(b"\n")]


async def test_the_lines_are_the_ten_newest_of_each_customer_and_all_insights(path: Path, tmp_path: Path) -> None:
    # Twins in time, so that the id decides.
    events = {name: [logged(name, seconds=n // 2) for n in range(25)] for name in ("acme", "beta")}
    insights = [logged("acme", "cdesk.insight_recorded", seconds=1000 + n) for n in range(15)]
    async with opened(path) as warehouse:
        await load(warehouse, tmp_path, *events["acme"], *events["beta"], *insights)
        found = await warehouse.changes(None)
    newest = [
        event
        for own in events.values()
        for event in sorted(own, key=lambda event: (event.ts, event.activity_id), reverse=True)[:10]
    ]
    assert sorted(found.lines) == sorted(event.line.rstrip(b"\n") for event in (*newest, *insights))


async def test_events_are_counted_for_eight_days(path: Path, tmp_path: Path) -> None:
    days = [logged(seconds=86_400 * day) for day in (0, 7, 9, 400)]
    async with opened(path) as warehouse:
        await load(warehouse, tmp_path, *days, logged(seconds=-86_400))
        found = await warehouse.changes(None)
    hours = [timestamp(NOW - timedelta(days=day))[:13] for day in (7, 0, -1)]
    assert [count[1] for count in sorted(found.counts)] == hours
    assert len(found.lines) == 5


@pytest.mark.parametrize("limit", ["CHUNK_ROWS", "CHUNK_BYTES"])
async def test_small_steps_bring_the_same_as_one(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    async with opened(path) as warehouse:
        for _ in range(6):
            names = ("acme", "beta")
            await load(warehouse, tmp_path, *(logged(name, "cdesk.insight_recorded") for name in names), logged())
        whole, calls = await read_all(warehouse)
        assert calls == 1
        monkeypatch.setattr(f"snowledger_uploader._duckdb._changes.{limit}", 5)
        parts, calls = await read_all(warehouse)
    assert calls == {"CHUNK_ROWS": 3, "CHUNK_BYTES": 6}[limit]
    assert parts == whole


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


async def test_odd_rows_that_somebody_else_inserted_are_left_out(path: Path, tmp_path: Path) -> None:
    event = logged()
    async with opened(path) as warehouse:
        for payload in ODD:
            warehouse._require().execute(
                "INSERT INTO activities.raw_events VALUES ('x', ?, 'b', now()::TIMESTAMP)", [payload]
            )
        await load(warehouse, tmp_path, event)
        found = await warehouse.changes(None)
    assert found.counts == [("acme", HOUR, "cdesk.user_asked", 1)]
    assert found.lines == [event.line.rstrip(b"\n")]


async def test_an_event_of_another_form_counts_like_any_other(path: Path) -> None:
    payload = (
        '{{ "ts": "{}", "customer": "\\u0061cme", "activity": "cdesk.x", "feature_json": {{}}, "activity_id": "1" }}'
    )
    payload = payload.format(TODAY)
    async with opened(path) as warehouse:
        warehouse._require().execute(
            "INSERT INTO activities.raw_events VALUES ('1', ?, 'b', now()::TIMESTAMP)", [payload]
        )
        found = await warehouse.changes(None)
    assert found.counts == [("acme", HOUR, "cdesk.x", 1)]
    assert found.lines == [payload.encode()]


async def test_names_may_have_any_characters(path: Path, tmp_path: Path) -> None:
    name = 'Åsa "Q" 東京 \U0001f9ca'
    body = b'{"activity_id":"%032x","ts":"%s","customer":"\\u00c5sa \\"Q\\" %s","activity":"cdesk.x","feature_json":{}}'
    escaped = with_checksum(body % (5, TODAY.encode(), "東京 \U0001f9ca".encode()))
    async with opened(path) as warehouse:
        await warehouse.load(batch_of(tmp_path, [logged(name, "cdesk.x").line, escaped]))
        found = await warehouse.changes(None)
    assert found.counts == [(name, HOUR, "cdesk.x", 2)]
    assert len(found.lines) == 2


async def test_a_call_leaves_nothing_behind_and_may_be_cancelled(path: Path, tmp_path: Path) -> None:
    async with opened(path) as warehouse:
        await warehouse.load(batch_of(tmp_path, [raw_line(number, b'{"n":1}') for number in range(40_000)]))
        whole, _ = await read_all(warehouse)
        assert rows_of(warehouse, "SELECT count(*) FROM duckdb_tables() WHERE temporary") == [(0,)]
        for after_s in (0.0, 0.005, 0.02, 0.05):
            with anyio.move_on_after(after_s):
                await warehouse.changes(None)
            await warehouse.open()
            assert (await read_all(warehouse))[0] == whole
        await load(warehouse, tmp_path, logged())  # no transaction is left open


def rows_of(warehouse: DuckDBWarehouse, sql: str) -> list[tuple[object, ...]]:
    connection: duckdb.DuckDBPyConnection = warehouse._require()
    return connection.execute(sql).fetchall()
