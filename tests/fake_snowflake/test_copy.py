from pathlib import Path

import pytest
from tests.fake_snowflake.client import Client, write_lines
from tests.fake_snowflake.control import FakeSnowflake

COPY = "COPY INTO t FROM @files FILE_FORMAT = (FORMAT_NAME = lines) ON_ERROR = ABORT_STATEMENT"


def loaded(client: Client, sql: str) -> int:
    """Copy; returns how many rows were loaded."""
    return sum(row[3] for row in client.rows(sql))


@pytest.fixture(autouse=True)
def table(client: Client) -> None:
    client.rows("CREATE TABLE t (payload VARIANT)")


@pytest.fixture
def two_files(client: Client, tmp_path: Path) -> None:
    for name, numbers in (("a", [1, 2]), ("b", [3])):
        client.put(write_lines(tmp_path / f"{name}.ndjson.gz", [{"n": number} for number in numbers]), "@files")


@pytest.mark.usefixtures("two_files")
def test_copy_loads_the_files_it_names(client: Client) -> None:
    assert loaded(client, f"{COPY} FILES = ('a.ndjson.gz')") == 2
    assert client.rows("SELECT payload:n::INT FROM t ORDER BY 1") == [(1,), (2,)]


@pytest.mark.usefixtures("two_files")
def test_copy_tells_of_every_file_as_snowflake_does(client: Client) -> None:
    with client.connection.cursor() as cursor:
        cursor.execute(COPY)
        assert [column.name for column in cursor.description or []] == [
            "file",
            "status",
            "rows_parsed",
            "rows_loaded",
            "error_limit",
            "errors_seen",
            "first_error",
            "first_error_line",
            "first_error_character",
            "first_error_column_name",
        ]
        rows = cursor.fetchall()
    assert [row[:4] for row in rows] == [("files/a.ndjson.gz", "LOADED", 2, 2), ("files/b.ndjson.gz", "LOADED", 1, 1)]


@pytest.mark.usefixtures("two_files")
def test_a_file_is_loaded_once_into_a_table_unless_forced(client: Client) -> None:
    assert loaded(client, COPY) == 3
    assert [row[1] for row in client.rows(COPY)] == ["LOAD_SKIPPED", "LOAD_SKIPPED"]
    assert loaded(client, f"{COPY} FORCE = FALSE") == 0
    assert loaded(client, f"{COPY} FORCE = TRUE") == 3
    assert client.value("SELECT COUNT(*) FROM t") == 6


@pytest.mark.usefixtures("two_files")
@pytest.mark.parametrize("anew", ["CREATE OR REPLACE TABLE t (payload VARIANT)", "TRUNCATE TABLE t"])
def test_a_table_made_anew_has_loaded_nothing(client: Client, anew: str) -> None:
    client.rows(COPY)
    client.rows(anew)
    assert loaded(client, COPY) == 3


@pytest.mark.usefixtures("two_files")
def test_a_temporary_table_made_anew_has_loaded_nothing(client: Client) -> None:
    for _ in range(2):
        client.rows("CREATE OR REPLACE TEMPORARY TABLE landing (payload VARIANT)")
        assert loaded(client, COPY.replace("INTO t", "INTO landing")) == 3


def test_a_changed_file_is_loaded_again(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson.gz"
    for number in (1, 2):
        client.put(write_lines(path, [{"n": number}]), "@files", "OVERWRITE = TRUE")
        assert loaded(client, COPY) == 1


@pytest.mark.usefixtures("two_files")
def test_a_rollback_forgets_the_load(client: Client) -> None:
    client.rows("BEGIN")
    assert loaded(client, COPY) == 3
    client.rows("ROLLBACK")
    assert client.value("SELECT COUNT(*) FROM t") == 0
    assert loaded(client, COPY) == 3


def test_a_line_that_is_no_json_loads_nothing(client: Client, tmp_path: Path) -> None:
    client.put(write_lines(tmp_path / "good.ndjson.gz", [{"n": 1}]), "@files")
    client.put(write_lines(tmp_path / "poor.ndjson.gz", [{"n": 2}, '{"n": ', {"n": 3}]), "@files")
    client.rows("BEGIN")
    client.rows("INSERT INTO t SELECT PARSE_JSON('{}')")
    assert client.fails(COPY) == 100069
    assert client.value("SELECT COUNT(*) FROM t") == 1
    client.rows("COMMIT")
    assert client.value("SELECT COUNT(*) FROM t") == 1


@pytest.mark.usefixtures("two_files")
def test_a_poisoned_row_fails_every_copy_that_reads_it(client: Client, fake_snowflake: FakeSnowflake) -> None:
    fake_snowflake.poison('"n": ?2')
    assert client.fails(COPY) == 100069
    assert client.fails(f"{COPY} FILES = ('a.ndjson.gz')") == 100069
    assert loaded(client, f"{COPY} FILES = ('b.ndjson.gz')") == 1
    fake_snowflake.heal()
    assert loaded(client, COPY) == 2


@pytest.mark.usefixtures("two_files")
def test_copy_transforms(client: Client) -> None:
    client.rows("CREATE TABLE u (n INT, file VARCHAR, line INT)")
    sql = """
    COPY INTO u (n, file, line)
    FROM (SELECT $1:n::INT * 10, METADATA$FILENAME, METADATA$FILE_ROW_NUMBER FROM @files/ (FILE_FORMAT => lines) AS s)
    FILES = ('a.ndjson.gz') FILE_FORMAT = (TYPE = 'JSON')
    """
    assert loaded(client, sql) == 2
    rows = client.rows("SELECT n, file, line FROM u ORDER BY n")
    assert rows == [(10, "a.ndjson.gz", 1), (20, "a.ndjson.gz", 2)]


def test_what_is_missing_is_named(client: Client) -> None:
    assert client.fails(f"{COPY} FILES = ('nowhere.gz')") == 91016
    assert client.fails(COPY.replace("@files", "@nowhere")) == 2003
    assert client.fails(COPY.replace("lines", "nowhere")) == 2003
    assert client.fails(COPY.replace("INTO t", "INTO nowhere")) == 2003
    assert client.rows(COPY) == [("Copy executed with 0 files processed.",)]


@pytest.mark.parametrize("option", ["ON_ERROR = CONTINUE", "VALIDATION_MODE = RETURN_ERRORS"])
def test_what_the_fake_cannot_do_fails(client: Client, option: str) -> None:
    assert client.fails(f"COPY INTO t FROM @files FILE_FORMAT = (TYPE = JSON) {option}") == 603
