"""A query on Snowflake, where its protocol and its types matter; ``test_query`` has the rest."""

import re
import time
from datetime import date
from datetime import datetime as moment
from datetime import time as clock
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import anyio
import duckdb
import psutil
import pytest
from anyio import to_thread
from tests.ddl.template_samples import write
from tests.fake_snowflake.control import FakeSnowflake, FaultKind
from tests.thorough import variants
from tests.uploader.backends import emptied, ready_snowflake
from tests.uploader.query_samples import event, parquet, query, write_templates
from tests.uploader.snowflake_samples import opened
from tests.uploader.test_query import INJECTIONS, ignore
from tests.uploader.uploader_samples import batch_of, wait_until

from snowledger_queue import open_spool
from snowledger_uploader import QueryFailedError, SnowflakeWarehouse, WarehouseRefusedError, WarehouseUnavailableError
from snowledger_uploader._snowflake._arrow import readable, type_name
from snowledger_uploader._snowflake._columns import Column

__all__ = ["ready_snowflake"]


class Account:
    """An account with some events, and a warehouse on it."""

    def __init__(self, fake: FakeSnowflake, folder: Path, warehouse: SnowflakeWarehouse) -> None:
        self.fake = fake
        self.folder = folder
        self.templates = write_templates(folder / "templates")
        self.warehouse = warehouse

    async def ask(self, name: str, **changes: Any) -> list[tuple[Any, ...]]:
        answer = await self.warehouse.query(query(self.folder, name, self.templates, **changes), ignore)
        return parquet(answer.path)

    def count(self, request: str) -> int:
        return sum(re.match(request, found) is not None for found in self.fake.requests())


@pytest.fixture
async def account(ready_snowflake: FakeSnowflake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    emptied(ready_snowflake, tmp_path / "home", monkeypatch)
    async with opened(open_spool(tmp_path / "spool")) as warehouse:
        await warehouse.load(batch_of(tmp_path, [event(number).line for number in range(300)]))
        ready_snowflake.forget()
        yield Account(ready_snowflake, tmp_path, warehouse)


async def test_a_query_is_asynchronous_tagged_and_bound(account: Account) -> None:
    write(
        account.templates,
        "SELECT activity FROM events WHERE LIST_CONTAINS($customers, customer) AND LIST_CONTAINS($names, activity)",
        'scope = "allowed"\n[params.names]\ntype = "list"\nitems = "string"\ndefault = []\ndescription = "Which."\n',
        name="lists",
    )
    names = ["cdesk.user_asked", *INJECTIONS]
    assert len(await account.ask("lists", params={"names": names}, customers=("acme", *INJECTIONS))) == 300
    await account.ask("numbers", params={"text": INJECTIONS[0]}, customer=INJECTIONS[1])
    sent = account.fake.statements()
    assert len(sent) == 2
    for statement in sent:
        assert statement.asynchronous
        assert statement.query_tag == "cdesk_0123abcd"
        assert statement.sql.endswith("LIMIT 1000001")
        for text in (*INJECTIONS, "acme"):
            assert len(text) < 3 or text not in statement.sql


async def test_cancelling_aborts_the_statement(account: Account) -> None:
    with anyio.move_on_after(0.7):
        await account.ask("endless")
    [statement] = account.fake.statements()
    assert account.count("ABORT") == 1
    await to_thread.run_sync(wait_until, lambda: account.fake.statements()[0].error == 604, "it has ended")
    assert (await account.ask("counts")) == [("cdesk.user_asked", 300)]
    assert statement.asynchronous


async def test_snowflake_ends_what_nobody_cancels(account: Account) -> None:
    began = time.monotonic()
    with pytest.raises(WarehouseUnavailableError, match="time limit"):
        await account.ask("endless", limit_s=1.0)
    assert time.monotonic() - began < 10
    assert account.fake.statements()[0].error == 630


async def test_sessions_are_kept_for_the_next_query(account: Account) -> None:
    for _ in range(3):
        await account.ask("counts")
    assert account.count("LOGIN") == 1
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(account.ask, "counts")
    assert account.count("LOGIN") == 2
    await account.warehouse.rest(over=True)
    assert account.count("LOGOUT") == 3


async def test_a_fault_on_the_way_is_overcome_or_worth_a_retry(account: Account) -> None:
    await account.ask("counts")
    faults: list[tuple[str, FaultKind, Literal["before", "after"]]] = [
        ("SELECT", "503", "before"),
        ("SELECT", "429", "before"),
        ("SELECT", "reset", "before"),
        ("SELECT", "reset", "after"),
        ("SELECT", "expired", "before"),
        ("MONITOR", "503", "before"),
        ("MONITOR", "reset", "after"),
        ("RESULT", "503", "before"),
        ("RESULT", "reset", "before"),
    ]
    for match, kind, when in faults:
        account.fake.fault(match, kind, 1, when)
        try:
            found = await account.ask("counts")
        except WarehouseUnavailableError:
            found = await account.ask("counts")
        assert found == [("cdesk.user_asked", 300)], (match, kind, when)
        assert account.fake.faults_left() == 0, (match, kind, when)


async def test_a_session_that_is_gone_is_replaced(account: Account) -> None:
    await account.ask("counts")
    account.fake.fault("SELECT", "gone")
    with pytest.raises(WarehouseUnavailableError):
        await account.ask("counts")
    assert await account.ask("counts") == [("cdesk.user_asked", 300)]


@pytest.mark.parametrize("kind", variants("403", "reset"))  # the driver tries again for a while after a reset
async def test_a_result_that_breaks_off_is_worth_a_retry(account: Account, kind: FaultKind) -> None:
    account.fake.fault("CHUNK .*/5", kind, 99)
    with pytest.raises(WarehouseUnavailableError, match="could not be read to its end"):
        await account.ask("pairs")
    account.fake.heal()
    account.fake.fault("CHUNK", "503")
    assert len(await account.ask("pairs")) == 300 * 300


async def test_cancelling_does_not_wait_for_rows_that_do_not_come(account: Account) -> None:
    account.fake.fault("CHUNK .*/5", "stall", seconds=8)
    began = time.monotonic()
    with anyio.move_on_after(1):
        await account.ask("pairs")
    assert time.monotonic() - began < 6
    account.fake.heal()
    assert await account.ask("counts") == [("cdesk.user_asked", 300)]


async def test_a_result_of_a_million_rows_takes_little_memory_and_ends_at_its_cap(account: Account) -> None:
    await account.warehouse.load(batch_of(account.folder, [event(number).line for number in range(300, 1_000)]))
    process = psutil.Process()
    before = process.memory_info().rss
    largest = 0
    seen: list[int] = []

    def watch(rows: int, _size: int) -> None:
        nonlocal largest
        seen.append(rows)
        largest = max(largest, process.memory_info().rss)

    request = query(account.folder, "pairs", account.templates, row_cap=10_000_000)
    whole = await account.warehouse.query(request, watch)
    assert (whole.rows, whole.truncated) == (1_000 * 1_000, False)
    assert seen == sorted(seen)
    request = query(account.folder, "pairs", account.templates, row_cap=10_000_000, byte_cap=2**20)
    cut = await account.warehouse.query(request, watch)
    assert cut.truncated
    assert 2**20 / 3 < cut.bytes <= 2**20
    assert parquet(cut.path, "SELECT count(DISTINCT one || other) FROM result") == [(cut.rows,)]
    assert largest - before < 100 * 2**20  # the rows alone would be as much


async def test_a_refused_login_tells_a_customer_nothing_of_it(account: Account) -> None:
    account.fake.fault("LOGIN", "wrong_password", 9)
    with pytest.raises(WarehouseRefusedError) as caught:
        await account.ask("counts")
    assert not re.search(r"(?i)secret|loader|127\.0|\n", str(caught.value)), caught.value


async def test_numbers_are_right_whatever_the_parts_of_a_result_are_encoded_in(account: Account) -> None:
    number = "(CAST(a.feature_json ->> '$.number' AS BIGINT) * 300 + CAST(b.feature_json ->> '$.number' AS BIGINT))"
    write(
        account.templates,
        f"""
        SELECT {number} AS small, -{number} * 40000000000 AS large, CAST({number} * 0.25 AS DECIMAL(20, 2)) AS price
        FROM events AS a CROSS JOIN events AS b
        WHERE a.customer = $customer AND a.activity = 'cdesk.user_asked' AND b.activity = 'cdesk.user_asked'
        ORDER BY small
        """,  # noqa: S608 - the test's own
        name="widths",
    )
    expected = [(n, n * -40_000_000_000, n * Decimal("0.25")) for n in range(300 * 300)]
    assert await account.ask("widths") == expected


async def test_columns_are_told_by_the_names_that_they_have_in_the_file(account: Account) -> None:
    write(account.templates, "SELECT activity AS x, 1 AS x FROM events WHERE customer = $customer", name="twice")
    answer = await account.warehouse.query(query(account.folder, "twice", account.templates), ignore)
    with duckdb.connect() as connection:
        names = connection.from_parquet(str(answer.path)).columns
    assert [name for name, _ in answer.columns] == names
    assert len(set(names)) == 2


async def test_a_query_that_a_new_session_does_not_begin_has_failed(account: Account) -> None:
    account.fake.fault("SELECT", "error", code=100038, message="Numeric value 'top secret' is not recognized")
    with pytest.raises(QueryFailedError) as caught:
        await account.ask("counts")
    assert "secret" not in str(caught.value)


STRUCT = "{'epoch': 1795234847::BIGINT, 'fraction': 123456789::INTEGER}"
ZONED = "{'epoch': 1795234847::BIGINT, 'fraction': 123456789::INTEGER, 'timezone': 1500::INTEGER}"
AT = moment(2026, 11, 21, 4, 20, 47, 123456)  # noqa: DTZ001 - the columns are UTC without a zone


@pytest.mark.parametrize(
    ("kind", "scale", "sent", "expected"),
    [
        ("FIXED", 0, "7::TINYINT", 7),
        ("FIXED", 0, "9007199254740993", 9007199254740993),
        ("FIXED", 0, "12345678901234567890::DECIMAL(38, 0)", Decimal(12345678901234567890)),
        ("FIXED", 2, "-150::SMALLINT", Decimal("-1.50")),
        ("FIXED", 6, "NULL::INTEGER", None),
        ("FIXED", 20, "12::BIGINT", Decimal("0.00000000000000000012")),
        ("FIXED", 37, "9223372036854775807", Decimal(9223372036854775807).scaleb(-37)),
        ("FIXED", 2, "1.50::DECIMAL(38, 2)", Decimal("1.50")),
        ("REAL", 0, "0.1::DOUBLE", 0.1),
        ("TEXT", 0, "'é'", "é"),
        ("BOOLEAN", 0, "TRUE", True),
        ("DATE", 0, "DATE '2026-11-21'", date(2026, 11, 21)),
        ("BINARY", 0, "'ab'::BLOB", b"ab"),
        ("TIME", 9, "15647123456789::BIGINT", clock(4, 20, 47, 123456)),
        ("TIME", 0, "15647::INTEGER", clock(4, 20, 47)),
        ("TIMESTAMP_NTZ", 9, STRUCT, AT),
        ("TIMESTAMP_NTZ", 9, "NULL::STRUCT(epoch BIGINT, fraction INTEGER)", None),
        ("TIMESTAMP_NTZ", 6, "1795234847123456::BIGINT", AT),
        ("TIMESTAMP_NTZ", 3, "1795234847123::BIGINT", AT.replace(microsecond=123000)),
        ("TIMESTAMP_LTZ", 9, STRUCT, AT),
        ("TIMESTAMP_TZ", 9, ZONED, AT),
        (
            "TIMESTAMP_TZ",
            3,
            "{'epoch': 1795234847123::BIGINT, 'timezone': 1440::INTEGER}",
            AT.replace(microsecond=123000),
        ),
        ("VARIANT", 0, "'{\n  \"a\": [1,\n 2]\n}'", '{"a":[1,2]}'),
        ("ARRAY", 0, "'[\n  undefined\n]'", "[\n  undefined\n]"),
        ("GEOGRAPHY", 0, "'POINT'", "POINT"),
    ],
)
def test_what_snowflake_sends_is_read_as_the_connector_reads_it(
    kind: str, scale: int, sent: str, expected: object
) -> None:
    column = Column("X", kind, 38, scale)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE answer AS SELECT {sent} AS x")
        [(_, arrow, *_)] = connection.execute("DESCRIBE answer").fetchall()
        [(found,)] = connection.execute(f"SELECT {readable(column, 'x', arrow)} FROM answer").fetchall()  # noqa: S608
    assert found == expected
    assert type(found) is type(expected)


def test_types_are_told_as_snowflake_names_them() -> None:
    assert type_name(Column("X", "FIXED", 18, 2)) == "NUMBER(18,2)"
    assert type_name(Column("X", "REAL", 0, 0)) == "FLOAT"
    assert type_name(Column("X", "TIMESTAMP_NTZ", 0, 9)) == "TIMESTAMP_NTZ"
