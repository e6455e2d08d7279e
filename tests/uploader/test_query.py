"""One query on any warehouse: the right rows in their order, within caps, and never in the loader's way."""

import re
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.ddl.template_samples import write
from tests.uploader.backends import Backend, backend, ready_snowflake
from tests.uploader.query_samples import event, parquet, query
from tests.uploader.uploader_samples import batch_of

from snowledger_queue import Event
from snowledger_uploader import QueryAnswer, QueryFailedError, Warehouse

__all__ = ["backend", "ready_snowflake"]

INJECTIONS = [
    "' OR '1'='1",
    "'; DROP TABLE activities.raw_events; --",
    "$$; SELECT 1; $$",
    "/* */ -- \\",
    "\\'; DROP TABLE RAW_EVENTS; --",
    '"; DETACH warehouse; "',
    "\u2019 OR 1=1",
    "$customer",
    ":customer",
    "?",
    "%s",
    "line\nbreak\ttab",
]


def ignore(_rows: int, _bytes: int) -> None:
    pass


async def load(warehouse: Warehouse, folder: Path, *events: Event) -> None:
    await warehouse.load(batch_of(folder, [event.line for event in events]))


async def asked(backend: Backend, events: list[Event], name: str, templates: Path, **changes: Any) -> QueryAnswer:
    async with backend.opened() as warehouse:
        if events:
            await load(warehouse, backend.folder, *events)
        return await warehouse.query(query(backend.folder, name, templates, **changes), ignore)


async def test_the_answer_is_known_and_whole(backend: Backend, templates: Path) -> None:
    answer = await asked(backend, [event(1), event(2), event(3), event(4, "beta")], "counts", templates)
    number = {"duckdb": "BIGINT", "snowflake": "NUMBER(38,0)"}[backend.name]
    assert answer.columns == (("activity", "VARCHAR"), ("n", number))
    assert answer.sample == [("cdesk.user_asked", 3)]
    assert (answer.rows, answer.truncated) == (1, False)
    assert answer.bytes == answer.path.stat().st_size
    assert parquet(answer.path) == [("cdesk.user_asked", 3)]


async def test_no_row_is_an_answer_too(backend: Backend, templates: Path) -> None:
    answer = await asked(backend, [], "counts", templates)
    assert (answer.rows, answer.sample, answer.truncated) == (0, [], False)
    assert [name for name, _ in answer.columns] == ["activity", "n"]
    assert parquet(answer.path) == []


async def test_rows_come_in_the_query_s_order_and_the_sample_is_the_first_ten(
    backend: Backend, templates: Path
) -> None:
    answer = await asked(backend, [event(number) for number in reversed(range(20_000))], "numbers", templates)
    assert [number for number, _ in parquet(answer.path)] == list(range(20_000))
    assert answer.sample == [(number, "") for number in range(10)]


async def test_the_row_cap_keeps_the_first_rows(backend: Backend, templates: Path) -> None:
    events = [event(number) for number in range(1_000)]
    cut = await asked(backend, events, "numbers", templates, row_cap=700)
    assert (cut.rows, cut.truncated) == (700, True)
    assert [number for number, _ in parquet(cut.path)] == list(range(700))
    whole = await asked(backend, [], "numbers", templates, row_cap=1_000)
    assert (whole.rows, whole.truncated) == (1_000, False)


@pytest.mark.parametrize("cap", [1, 3_000, 12_000])
async def test_the_byte_cap_keeps_as_many_rows_as_fit(backend: Backend, templates: Path, cap: int) -> None:
    async with backend.opened() as warehouse:
        await load(warehouse, backend.folder, *(event(number) for number in range(500)))
        request = query(backend.folder, "pairs", templates, row_cap=20_000)
        whole = await warehouse.query(request, ignore)
        request = query(backend.folder, "pairs", templates, row_cap=20_000, byte_cap=cap)
        cut = await warehouse.query(request, ignore)
    assert cut.truncated
    assert cut.bytes <= cap or cut.rows == 0  # a file without rows has a size too
    assert cut.rows == len(parquet(cut.path)) < whole.rows
    assert cut.bytes > cap / 2


async def test_a_parameter_is_data_whatever_it_looks_like(backend: Backend, templates: Path) -> None:
    async with backend.opened() as warehouse:
        await load(warehouse, backend.folder, event(1), event(2, "beta"))
        for text in INJECTIONS:
            answer = await warehouse.query(query(backend.folder, "numbers", templates, params={"text": text}), ignore)
            assert parquet(answer.path) == [(1, text)]
    assert backend.rows("SELECT count(*) FROM raw_events") == [(3,)]


async def test_another_customer_s_name_is_data_too(backend: Backend, templates: Path) -> None:
    names = [text for text in INJECTIONS if text.isprintable() and not {"/", "\\"} & set(text)]
    events = [event(number, name) for number, name in enumerate(["acme", *names])]
    async with backend.opened() as warehouse:
        await load(warehouse, backend.folder, *events)
        for number, name in enumerate(names, 1):
            answer = await warehouse.query(query(backend.folder, "numbers", templates, customer=name), ignore)
            assert parquet(answer.path) == [(number, "")]


async def test_cancelling_stops_it_at_once_and_leaves_the_loader_alone(backend: Backend, templates: Path) -> None:
    async with backend.opened() as warehouse:
        await load(warehouse, backend.folder, *(event(number) for number in range(300)))
        with anyio.move_on_after(0.7):
            await warehouse.query(query(backend.folder, "endless", templates), ignore)
            pytest.fail("it ended by itself")
        began = time.monotonic()
        assert (await warehouse.load(batch_of(backend.folder, [event(1_000).line]))).inserted == 1
        assert time.monotonic() - began < 2
        answer = await warehouse.query(query(backend.folder, "counts", templates), ignore)
        assert answer.sample == [("cdesk.user_asked", 301)]


async def test_a_query_runs_while_batches_load_and_sees_one_state(backend: Backend, templates: Path) -> None:
    answers: list[QueryAnswer] = []
    async with backend.opened() as warehouse:
        await load(warehouse, backend.folder, *(event(number) for number in range(1_000)))

        async def ask() -> None:
            for _ in range(3):
                answer = await warehouse.query(query(backend.folder, "numbers", templates), ignore)
                answers.append(answer)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            tasks.start_soon(ask)
            for batch in range(1, 4):
                lines = [event(number).line for number in range(batch * 1_000, (batch + 1) * 1_000)]
                assert (await warehouse.load(batch_of(backend.folder, lines))).inserted == 1_000
    assert backend.rows("SELECT count(*) FROM raw_events") == [(4_004,)]
    for answer in answers:
        assert answer.rows % 1_000 == 0
        assert [number for number, _ in parquet(answer.path)] == list(range(answer.rows))


async def test_an_error_shows_neither_data_nor_sql_nor_paths(backend: Backend, templates: Path) -> None:
    """A value that cannot be converted may belong to anybody: the warehouse decides what it looks at first."""
    body = "SELECT CAST(feature_json ->> '$.text' AS INTEGER) AS n FROM events WHERE customer = $customer"
    write(templates, body, name="wrong")
    with pytest.raises(QueryFailedError) as caught:
        await asked(backend, [event(1, text="top 'secret' value")], "wrong", templates)
    message = str(caught.value)
    assert not re.search("secret|value|SELECT|/|\n", message), message
    assert not caught.value.transient


async def test_a_column_that_is_not_there_is_the_query_s_fault(backend: Backend, templates: Path) -> None:
    write(templates, "SELECT nosuch FROM events WHERE customer = $customer", name="wrong")
    with pytest.raises(QueryFailedError, match=r"(?i)nosuch"):
        await asked(backend, [], "wrong", templates)


async def test_a_template_that_breaks_a_rule_is_not_run(backend: Backend, templates: Path) -> None:
    write(templates, "SELECT * FROM activities.raw_events AS r WHERE r.payload <> $customer", name="wrong")
    with pytest.raises(QueryFailedError) as caught:
        await asked(backend, [], "wrong", templates)
    assert str(backend.folder) not in str(caught.value)


async def test_any_folder_name_can_hold_the_result(backend: Backend, templates: Path) -> None:
    backend.folder = backend.folder / "id=1 [a-b]* ? json=2 é'"
    backend.folder.mkdir()
    answer = await asked(backend, [event(number) for number in range(1_000)], "numbers", templates, row_cap=10)
    assert [number for number, _ in parquet(answer.path)] == list(range(10))


async def test_a_result_may_be_of_any_type(backend: Backend, templates: Path) -> None:
    body = """
    SELECT ts AS at, CAST(ts AS DATE) AS day, CAST(1.5 AS DECIMAL(4, 2)) AS money, CAST(NULL AS VARCHAR) AS nothing,
    CAST(0.1 AS DOUBLE) AS fraction, 9007199254740993 AS large, TRUE AS yes, feature_json AS features
    FROM events WHERE customer = $customer
    """
    write(templates, body, name="typed")
    answer = await asked(backend, [event(1)], "typed", templates)
    [row] = answer.sample
    names = ["at", "day", "money", "nothing", "fraction", "large", "yes", "features"]
    assert [name for name, _ in answer.columns] == names
    assert row[1] == row[0].date()  # type: ignore[attr-defined]
    assert [str(value) for value in row[2:]] == ["1.50", "None", "0.1", "9007199254740993", "True", '{"number":1}']
