import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from tests.fake_snowflake.client import Client
from tests.fake_snowflake.control import FakeSnowflake

UTC = dt.UTC
# What a value becomes in Python; the same by Arrow and by JSON.
VALUES = [
    ("1", 1),
    ("1234567890123456789::NUMBER(38,0)", 1234567890123456789),
    ("1.25::NUMBER(10,2)", Decimal("1.25")),
    ("1.5::FLOAT", 1.5),
    ("'text'", "text"),
    ("TRUE", True),
    ("NULL", None),
    ("NULL::TIMESTAMP_NTZ", None),
    ("TO_DATE('2026-02-03')", dt.date(2026, 2, 3)),
    ("'2026-02-03 04:05:06.789012'::TIMESTAMP_NTZ", dt.datetime(2026, 2, 3, 4, 5, 6, 789012)),  # noqa: DTZ001
    ("'1969-12-31 23:59:59.5'::TIMESTAMP_NTZ", dt.datetime(1969, 12, 31, 23, 59, 59, 500000)),  # noqa: DTZ001
    ("'2026-02-03 04:05:06+02:00'::TIMESTAMP_LTZ", dt.datetime(2026, 2, 3, 2, 5, 6, tzinfo=UTC)),
    ("PARSE_JSON('{\"a\":1}')", '{"a":1}'),
    ('PARSE_JSON(\'{"a":{"b":"c"}}\'):a.b::STRING', "c"),
    ("PARSE_JSON('{\"a\":[1,2]}'):a[1]::INT", 2),
    ("PARSE_JSON('{}'):a::STRING", None),
    ("REGEXP_LIKE('abc', 'b')", False),
    ("TYPEOF(PARSE_JSON('[1]'))", "ARRAY"),
    ("IS_OBJECT(PARSE_JSON('{}'))", True),
    ("AS_INTEGER(PARSE_JSON('\"1\"'))", None),
    (
        "TO_CHAR('2026-02-03 04:05:06'::TIMESTAMP_NTZ, 'YYYY-MM-DD\"T\"HH24:MI:SS.FF6\"Z\"')",
        "2026-02-03T04:05:06.000000Z",
    ),
    ("TRY_TO_TIMESTAMP_NTZ('no time', 'AUTO')", None),
    ("ARRAY_CONTAINS('x'::VARIANT, PARSE_JSON('[\"x\", 1]'))", True),
    ("CURRENT_DATABASE()", "DB"),
]


@pytest.mark.parametrize("form", ["ARROW", "JSON"])
def test_values_arrive_in_either_form(client: Client, form: str) -> None:
    sql = f"SELECT {', '.join(f'{text} AS c{place}' for place, (text, _) in enumerate(VALUES))}"
    (row,) = client.rows(sql, parameters={"PYTHON_CONNECTOR_QUERY_RESULT_FORMAT": form})
    assert list(row) == [value for _, value in VALUES]


def test_a_large_result_comes_in_chunks(client: Client, fake_snowflake: FakeSnowflake) -> None:
    # As text, for the connector reads integers wrong that are wider in a later chunk.
    sql = "SELECT CAST(SEQ4() AS VARCHAR) AS n, 'text' AS t FROM TABLE(GENERATOR(ROWCOUNT => 25000))"
    fake_snowflake.fault("^CHUNK", "503")
    rows = client.rows(sql)
    assert sorted(int(row[0]) for row in rows) == list(range(25_000))
    assert len([request for request in fake_snowflake.requests() if request.startswith("CHUNK")]) == 4


@pytest.mark.parametrize("value", [1, 1.5, "text", True, None, dt.date(2026, 1, 2), b"\x00\xff"])
def test_bound_values_come_back(client: Client, value: Any) -> None:
    assert client.value("SELECT ?", value) == value


def test_a_bound_time_comes_back_to_the_microsecond(client: Client) -> None:
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 678901)  # noqa: DTZ001
    assert client.value("SELECT ?", moment) == moment


def test_insert_select_with_bindings_qualify_and_union(client: Client) -> None:
    client.rows("CREATE TABLE t (id VARCHAR, payload VARIANT, at TIMESTAMP_NTZ)")
    for number in (1, 1, 2):
        assert client.count("INSERT INTO t SELECT ?, PARSE_JSON(?), SYSDATE()", "x", f'{{"n": {number}}}') == 1
    sql = """
    INSERT INTO t (id, payload, at)
    SELECT payload:n::STRING, payload, SYSDATE() FROM t
    QUALIFY ROW_NUMBER() OVER (PARTITION BY payload:n::STRING ORDER BY at) = 1
    UNION ALL
    SELECT ?, PARSE_JSON(?), SYSDATE()
    """
    assert client.count(sql, "receipt", "{}") == 3
    assert client.rows("SELECT id FROM t WHERE id <> 'x' ORDER BY id") == [("1",), ("2",), ("receipt",)]
    clock = dt.datetime.now(UTC).replace(tzinfo=None)
    assert abs(client.value("SELECT MAX(at) FROM t") - clock) < dt.timedelta(minutes=1)


def test_many_rows_are_inserted_by_one_statement(client: Client, fake_snowflake: FakeSnowflake) -> None:
    client.rows("CREATE TABLE t (a INT, b VARCHAR)")
    fake_snowflake.forget()
    with client.connection.cursor() as cursor:
        cursor.executemany("INSERT INTO t VALUES (?, ?)", [(number, str(number)) for number in range(100)])
        assert cursor.rowcount == 100
    assert client.rows("SELECT COUNT(*), SUM(a) FROM t") == [(100, 4950)]
    done = [statement for statement in fake_snowflake.statements() if not statement.described]
    assert len(done) == 2


def test_changes_are_counted(client: Client) -> None:
    client.rows("CREATE TABLE t (a INT)")
    assert client.count("INSERT INTO t SELECT column1 FROM VALUES (1), (2), (3)") == 3
    assert client.count("UPDATE t SET a = 0 WHERE a > 1") == 2
    assert client.count("DELETE FROM t") == 3
    assert client.count("INSERT INTO t SELECT 1 WHERE FALSE") == 0


def test_a_description_does_nothing(client: Client, fake_snowflake: FakeSnowflake) -> None:
    client.rows("CREATE TABLE t (a INT, b VARCHAR)")
    fake_snowflake.forget()
    with client.connection.cursor() as cursor:
        columns = cursor.describe("SELECT a, COUNT(*), MAX(b) AS top FROM t WHERE a = ? GROUP BY a")
    assert [column.name for column in columns or []] == ["A", "COUNT(*)", "TOP"]
    assert [statement.described for statement in fake_snowflake.statements()] == [True]


def test_names_are_upper_case_unless_quoted(client: Client) -> None:
    client.rows('CREATE TABLE "mixed Case" (at INT, "ROWS" INT)')
    with client.connection.cursor() as cursor:
        cursor.execute('SELECT at, "ROWS", COUNT(*) FROM db.s."mixed Case" GROUP BY 1, 2')
        assert [column.name for column in cursor.description or []] == ["AT", "ROWS", "COUNT(*)"]


def test_a_dynamic_table_is_always_fresh(client: Client) -> None:
    client.rows("CREATE TABLE t (a INT)")
    client.rows("""
    CREATE OR REPLACE DYNAMIC TABLE counted (a NUMBER COMMENT 'as (it) is', n NUMBER(38, 0) COMMENT 'how many, AS x')
    TARGET_LAG = '1 minute' WAREHOUSE = "WH" REFRESH_MODE = INCREMENTAL CLUSTER BY (a) COMMENT = 'x'
    AS SELECT a, COUNT(*) FROM t GROUP BY a
    """)
    client.rows("INSERT INTO t VALUES (1), (1)")
    assert client.rows("SELECT a, n FROM counted") == [(1, 2)]


def test_what_cannot_be_done_is_recorded_and_succeeds(client: Client, fake_snowflake: FakeSnowflake) -> None:
    client.rows("CREATE TABLE t (a INT)")
    for sql in (
        'CREATE ROLE IF NOT EXISTS "R"',
        'GRANT SELECT ON TABLE t TO ROLE "R"',
        "CREATE WAREHOUSE wh WITH WAREHOUSE_SIZE = XSMALL",
        "ALTER TABLE t ADD SEARCH OPTIMIZATION ON EQUALITY (a)",
        "COMMENT ON TABLE t IS 'one'",
        "CREATE RESOURCE MONITOR m WITH CREDIT_QUOTA = 1",
        "CREATE OR REPLACE MASKING POLICY p AS (v STRING) RETURNS STRING -> v",
    ):
        client.rows(sql)
        assert fake_snowflake.unsupported()[-1].sql == sql
    recorded = fake_snowflake.unsupported()
    client.rows("ALTER TABLE t ADD COLUMN b VARCHAR")
    client.rows("ALTER TABLE t ADD c NUMBER COMMENT 'c'")
    client.rows("ALTER TABLE t RENAME COLUMN a TO d")
    assert client.rows("SELECT b, c, d FROM t") == []
    assert fake_snowflake.unsupported() == recorded


def test_a_table_is_altered_not_replaced(client: Client) -> None:
    client.rows("CREATE OR ALTER TABLE t (a INT)")
    client.rows("INSERT INTO t VALUES (1)")
    client.rows("CREATE OR ALTER TABLE t (a INT, b VARCHAR COMMENT 'new')")
    assert client.rows("SELECT a, b FROM t") == [(1, None)]


def test_the_catalogue_knows_tables_and_columns(client: Client) -> None:
    client.rows("CREATE TABLE t (a INT NOT NULL, payload VARIANT, at TIMESTAMP_NTZ)")
    columns = client.rows(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'T' ORDER BY ordinal_position"
    )
    assert columns == [("A", "NUMBER"), ("PAYLOAD", "VARIANT"), ("AT", "TIMESTAMP_NTZ")]
    assert [row[1] for row in client.rows("SHOW TABLES IN SCHEMA db.s")] == ["T"]


def test_what_is_dropped_is_gone(client: Client) -> None:
    client.rows("CREATE TABLE t (a INT)")
    client.rows("DROP SCHEMA db.s")
    client.rows("CREATE SCHEMA db.s")
    assert client.fails("SELECT a FROM t") == 2003
    assert client.fails("LIST @files") == 2003
    client.rows("DROP DATABASE db")
    assert client.fails("USE DATABASE db") in {2003, 2043}


@pytest.mark.parametrize(
    ("sql", "code"), [("SELEC 1", 1003), ("SELECT a FROM nowhere", 2003), ("SELECT 1; SELECT 2", 8), ("", 900)]
)
def test_wrong_statements_have_snowflakes_code(client: Client, sql: str, code: int) -> None:
    assert client.fails(sql or "-- nothing") == code


def test_comments_before_a_statement_change_nothing(client: Client, fake_snowflake: FakeSnowflake) -> None:
    client.rows("-- one\n/* two\n*/ BEGIN;")
    client.rows("  -- three\nGRANT ROLE a TO ROLE b")
    assert len(fake_snowflake.unsupported()) == 1
