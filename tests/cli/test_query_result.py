"""Results as they are printed: each format says what the Parquet file holds, in bounded memory, and replaces whole."""

import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snowledger.errors import CommandError
from snowledger.query_result import Format, check_output, format_of, write_result

EVERYTHING = """
SELECT 1::BIGINT AS whole, 2.50::DECIMAL(9, 2) AS exact, 'nan'::DOUBLE AS nothing, 0.1::DOUBLE AS part,
  TIMESTAMP '2026-11-21 04:20:47.123456' AS at, TIMESTAMPTZ '2026-11-21 06:20:47+02' AS zoned, DATE '2026-11-21' AS day,
  true AS yes, NULL::VARCHAR AS empty, [1, 2] AS several, '{"a": [1, null]}'::JSON AS features,
  'a,"b"' || chr(10) || 'ü漢' AS "quo""ted", chr(27) || '[31m' AS "t", 'x' AS "$file"
"""


def parquet(sql: str, folder: Path) -> Path:
    path = folder / "result.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)")
    return path


def written(artifact: Path, form: Format) -> str:
    output = artifact.with_name("output")
    write_result(artifact, form, output)
    return output.read_bytes().decode()


def test_json_is_an_object_on_each_line_and_keeps_what_values_are(tmp_path: Path) -> None:
    (line,) = written(parquet(EVERYTHING, tmp_path), "json").splitlines()
    assert json.loads(line) == {
        "whole": 1,
        "exact": 2.5,
        "nothing": None,
        "part": 0.1,
        "at": "2026-11-21T04:20:47.123456Z",
        "zoned": "2026-11-21T04:20:47.000000Z",
        "day": "2026-11-21",
        "yes": True,
        "empty": None,
        "several": [1, 2],
        "features": {"a": [1, None]},
        'quo"ted': 'a,"b"\nü漢',
        "t": "\x1b[31m",
        "$file": "x",
    }


def test_csv_has_a_header_and_says_the_same(tmp_path: Path) -> None:
    header, row = csv.reader(io.StringIO(written(parquet(EVERYTHING, tmp_path), "csv"), newline=""))
    found = dict(zip(header, row, strict=True))
    assert found['quo"ted'] == 'a,"b"\nü漢'
    assert (found["at"], found["exact"], found["empty"]) == ("2026-11-21T04:20:47.123456Z", "2.50", "")


def test_a_table_has_a_line_for_each_row_and_nothing_that_a_terminal_obeys(tmp_path: Path) -> None:
    text = written(parquet(EVERYTHING, tmp_path), "table")
    assert len(text.splitlines()) == 2
    assert "\x1b" not in text
    assert "\\x1b[31m" in text
    assert " 2.50  " in text


def test_a_table_cuts_long_values_and_ends_after_a_hundred_rows(tmp_path: Path) -> None:
    artifact = parquet("SELECT repeat('x', 100000) AS text, range AS number FROM range(5000)", tmp_path)
    lines = written(artifact, "table").splitlines()
    assert len(lines) == 101
    assert max(map(len, lines)) < 300


def test_no_rows_are_no_rows_in_any_format(tmp_path: Path) -> None:
    artifact = parquet("SELECT 1 AS number, 'a' AS text WHERE false", tmp_path)
    assert written(artifact, "csv") == "number,text\n"
    assert written(artifact, "json") == ""
    assert written(artifact, "table") == "number  text\n"


@settings(max_examples=20)
@given(
    rows=st.lists(
        st.tuples(
            st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_any_values_come_out_of_json_and_csv_as_they_went_in(
    rows: list[tuple[str | None, int | None, float | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    artifact = folder / "result.parquet"
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE found (word VARCHAR, number BIGINT, part DOUBLE)")
        connection.executemany("INSERT INTO found VALUES (?, ?, ?)", rows)
        connection.execute(f"COPY found TO '{artifact}' (FORMAT parquet)")
    objects = [json.loads(line) for line in written(artifact, "json").split("\n")[:-1]]
    finite = [(word, number, None if part is None or not math.isfinite(part) else part) for word, number, part in rows]
    assert [tuple(found.values()) for found in objects] == finite
    header, *lines = csv.reader(io.StringIO(written(artifact, "csv"), newline=""))
    assert header == ["word", "number", "part"]
    assert [line[:2] for line in lines] == [[word or "", "" if n is None else str(n)] for word, n, _ in rows]


def test_every_row_of_a_large_result_is_written(tmp_path: Path) -> None:
    artifact = parquet("SELECT range AS number FROM range(100000)", tmp_path)
    assert [int(line) for line in written(artifact, "csv").splitlines()[1:]] == list(range(100_000))
    assert sum(json.loads(line)["number"] for line in written(artifact, "json").splitlines()) == 4_999_950_000


def test_parquet_is_the_file_itself_and_any_path_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "k=v" / "a[b]*"
    folder.mkdir(parents=True)
    artifact = parquet("SELECT 1 AS number", tmp_path).rename(folder / "result.parquet")
    assert written(artifact, "json") == '{"number":1}\n'
    write_result(artifact, "parquet", tmp_path / "copy.parquet")
    assert (tmp_path / "copy.parquet").read_bytes() == artifact.read_bytes()


def test_an_output_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    artifact = parquet("SELECT range AS number FROM range(10)", tmp_path)
    real = tmp_path / "real.csv"
    real.write_bytes(b"old" * 10_000)
    link = tmp_path / "link.csv"
    link.symlink_to(real)
    write_result(artifact, "csv", link)
    assert link.is_symlink()
    assert real.read_text() == "number\n" + "".join(f"{number}\n" for number in range(10))

    artifact.write_bytes(b"PAR1" * 100)
    with pytest.raises(CommandError, match="cannot read"):
        write_result(artifact, "csv", link)
    assert real.read_text().startswith("number\n0\n")
    artifact.unlink()
    with pytest.raises(CommandError, match="is gone; ask again without --max-age"):
        write_result(artifact, "parquet", link)
    assert {path.name for path in tmp_path.iterdir()} == {"real.csv", "link.csv"}


@pytest.mark.skipif(os.name == "nt", reason="POSIX devices")
def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    artifact = parquet("SELECT 1 AS number", tmp_path)
    check_output(Path("/dev/null"))
    write_result(artifact, "csv", Path("/dev/null"))
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.csv", "csv"), ("a.JSON", "json"), ("a.ndjson", "json"), ("a.parquet", "parquet"), ("a.txt", "table")],
)
def test_a_files_name_says_its_format(name: str, form: str) -> None:
    assert format_of(Path(name)) == form
    assert format_of(None) == "table"


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"is a folder": tmp_path, "there is no folder": tmp_path / "nowhere" / "a.csv"}
    for message, output in wrong.items():
        with pytest.raises(CommandError, match=message):
            check_output(output)
