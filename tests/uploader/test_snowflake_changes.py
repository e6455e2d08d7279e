"""What Snowflake has got since a cursor, where several writers, its metadata and its JSON matter."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fake_snowflake.control import FakeSnowflake
from tests.uploader.backends import emptied, ready_snowflake
from tests.uploader.snowflake_samples import CONFIG, PLACE
from tests.uploader.test_changes import HOUR, TODAY

from snowledger_queue import INSIGHT_ACTIVITY, MAX_FEATURE_PREVIEW_BYTES, Changes, contribution
from snowledger_uploader._snowflake import _changes
from snowledger_uploader._snowflake._session import Session

__all__ = ["ready_snowflake"]

NOW = datetime.now(UTC).replace(tzinfo=None)


class Table:
    """RAW_EVENTS, as its writers fill it."""

    def __init__(self, fake: FakeSnowflake, session: Session) -> None:
        self.fake = fake
        self.session = session
        self.events = 0

    def commit(self, batch: str, ago: timedelta = timedelta(), *, count: int = 1, **members: Any) -> None:
        """A batch becomes visible whose rows were written some time ago."""
        for _ in range(count):
            self.events += 1
            event = {
                "activity_id": f"{self.events:032x}",
                "ts": TODAY,
                "customer": batch,
                "activity": "cdesk.user_asked",
                "feature_json": {"n": self.events},
                **members,
            }
            text = json.dumps(event).replace("'", "''")
            values = f"VALUES ('{event['activity_id']}', '{text}', '{batch:x<64}', '{NOW - ago}')"
            self.fake.sql(f"INSERT INTO {PLACE}.RAW_EVENTS {values}")

    def delete(self, condition: str = "TRUE") -> None:
        self.fake.sql(f"DELETE FROM {PLACE}.RAW_EVENTS WHERE {condition}")  # noqa: S608 - the tests' own

    async def changes(self, cursor: str | None) -> Changes:
        return await _changes.changes(self.session, cursor)

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        """The statements of a while."""
        self.fake.forget()
        found: list[str] = []
        yield found
        found += [statement.sql for statement in self.fake.statements()]


@pytest.fixture
async def table(ready_snowflake: FakeSnowflake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    emptied(ready_snowflake, tmp_path, monkeypatch)
    session = await Session.connect(CONFIG, "cdesk_00000000")
    yield Table(ready_snowflake, session)
    await session.close()


def customers(found: Changes) -> dict[str, int]:
    return {customer: events for customer, _, _, events in found.counts}


async def test_a_batch_that_another_writer_commits_late_is_found_and_nothing_counts_twice(table: Table) -> None:
    table.commit("early", timedelta(minutes=30))
    table.commit("late", timedelta(seconds=1))
    first = await table.changes(None)
    assert customers(first) == {"early": 1, "late": 1}
    table.commit("slow", timedelta(minutes=14), count=2)
    second = await table.changes(first.cursor)
    assert (customers(second), second.reset) == ({"slow": 2}, False)
    table.commit("slower", timedelta(minutes=10))
    table.commit("new")
    third = await table.changes(second.cursor)
    assert customers(third) == {"slower": 1, "new": 1}
    assert customers(await table.changes(third.cursor)) == {}
    assert customers(await table.changes(None)) == {"early": 1, "late": 1, "slow": 2, "slower": 1, "new": 1}


async def test_when_nothing_is_new_only_metadata_is_asked_for(table: Table) -> None:
    table.commit("a")
    cursor = (await table.changes(None)).cursor
    with table.watched() as statements:
        for _ in range(3):
            assert (await table.changes(cursor)).cursor == cursor
    assert statements == ["SELECT COUNT(*), MAX(_loaded_at) FROM RAW_EVENTS"] * 3


async def test_what_is_new_takes_three_statements_without_a_value_in_their_text(table: Table) -> None:
    table.commit("a")
    cursor = (await table.changes(None)).cursor
    table.commit("b", count=3)
    with table.watched() as statements:
        await table.changes(cursor)
    assert len(statements) == 3
    for text in statements[1:]:
        assert text.count("?") >= 3
        assert "aaa" not in text
        assert str(NOW.year) not in text


async def test_rows_that_were_deleted_are_no_reason_to_begin_anew(table: Table) -> None:
    """Retention removes old ones."""
    table.commit("old", timedelta(days=200))
    table.commit("new")
    cursor = (await table.changes(None)).cursor
    table.delete("_batch_id LIKE 'old%'")
    found = await table.changes(cursor)
    assert (found.reset, found.counts) == (False, [])
    with table.watched() as statements:
        await table.changes(found.cursor)
    assert len(statements) == 1, "the new number of rows is remembered"


@pytest.mark.parametrize("left", ["nothing", "an older state", "other rows"])
async def test_a_table_without_the_cursor_s_newest_batch_is_read_from_its_start(table: Table, left: str) -> None:
    table.commit("older", timedelta(minutes=5))
    table.commit("newest")
    cursor = (await table.changes(None)).cursor
    table.delete("_batch_id LIKE 'newest%'" if left == "an older state" else "TRUE")
    if left == "other rows":
        table.commit("other")
    found = await table.changes(cursor)
    assert found.reset
    expected: dict[str, dict[str, int]] = {"an older state": {"older": 1}, "other rows": {"other": 1}}
    assert customers(found) == expected.get(left, {})
    assert not (await table.changes(found.cursor)).reset


async def test_a_call_names_a_bounded_number_of_batches(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        table.commit(f"{number}", timedelta(minutes=number))
    monkeypatch.setattr(_changes, "CHUNK_BATCHES", 3)
    seen: dict[str, int] = {}
    cursor, more, calls = None, True, 0
    while more:
        found = await table.changes(cursor)
        cursor, more, calls = found.cursor, found.more, calls + 1
        assert not seen.keys() & customers(found).keys()
        seen |= customers(found)
    assert (len(seen), calls) == (7, 3)


async def test_counts_are_right_whatever_the_parts_of_a_result_are_encoded_in(table: Table) -> None:
    """Only one of them needs more than a byte, and it is hardly in the first part."""
    table.fake.sql(f"""
        INSERT INTO {PLACE}.RAW_EVENTS
        SELECT id, json_object('activity_id', id, 'ts', '{TODAY}', 'customer', customer, 'activity', 'a',
            'feature_json', json_object()), 'batch', TIMESTAMP '{NOW}'
        FROM (SELECT printf('%032d', n) AS id, CAST(greatest(n, 300) AS VARCHAR) AS customer FROM range(1800) AS _(n))
    """)  # noqa: S608 - the test's own
    assert customers(await table.changes(None)) == {"300": 301} | {f"{number}": 1 for number in range(301, 1800)}


async def test_a_cursor_forgets_batches_of_which_nobody_asks_any_more(table: Table) -> None:
    for minutes in range(60, 0, -2):
        table.commit(f"{minutes}", timedelta(minutes=minutes))
    cursor = (await table.changes(None)).cursor
    assert len(json.loads(cursor)[1]) == 9, "sixteen minutes of them, every two minutes, and both ends"


async def test_features_that_no_context_repeats_are_not_sent(table: Table) -> None:
    long, short = {"text": "long " * 50_000}, {"text": "x" * (MAX_FEATURE_PREVIEW_BYTES - len('{"text":""}'))}
    table.commit("a", feature_json=long)
    table.commit("a", feature_json=short)
    insight = {"subject": "s", "metric": "m", "value": long, "provenance_query_hash": "ab"}
    table.commit("a", activity=INSIGHT_ACTIVITY, feature_json=insight)
    found = await table.changes(None)
    assert sorted((activity, events) for _, _, activity, events in found.counts) == [
        (INSIGHT_ACTIVITY, 1),
        ("cdesk.user_asked", 2),
    ]
    read = [contribution(line) for line in found.lines]
    previews = [one.event.features for one in read if one is not None and one.event is not None]
    assert set(previews) == {None, json.dumps(short, separators=(",", ":")).encode()}
    assert sorted(map(len, found.lines))[1] < 1_000, "what is not an insight"
    [atom] = [one.atom for one in read if one is not None and one.atom is not None]
    assert json.loads(atom.value) == long
    assert {one.hour for one in read if one is not None} == {HOUR}
