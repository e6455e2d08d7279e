import gzip
from pathlib import Path

import pytest
from tests.fake_snowflake.client import Client, write_lines
from tests.fake_snowflake.conftest import Connect
from tests.fake_snowflake.control import FakeSnowflake


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "a.ndjson.gz", [{"a": 1}])


def test_put_uploads_once_and_skips_what_is_there(client: Client, fake_snowflake: FakeSnowflake, file: Path) -> None:
    assert client.put(file, "@files/in") == "UPLOADED"
    assert client.put(file, "@files/in", "OVERWRITE = FALSE") == "SKIPPED"
    uploads = [request for request in fake_snowflake.requests() if request.startswith("UPLOAD")]
    assert uploads == ["UPLOAD DB/S/FILES/in/a.ndjson.gz"]


def test_put_overwrites_when_told_to(client: Client, file: Path) -> None:
    client.put(file, "@files")
    write_lines(file, [{"a": 1}, {"b": 2}])
    assert client.put(file, "@files", "OVERWRITE = TRUE") == "UPLOADED"
    assert client.rows("LIST @files")[0][1] == file.stat().st_size


def test_put_compresses_when_told_to(client: Client, tmp_path: Path) -> None:
    plain = tmp_path / "plain.json"
    plain.write_text('{"a": 1}\n')
    client.rows(f"PUT 'file://{plain}' @files AUTO_COMPRESS = TRUE")
    assert [row[0] for row in client.rows("LIST @files")] == ["files/plain.json.gz"]
    client.rows("CREATE TABLE t (payload VARIANT)")
    client.rows("COPY INTO t FROM @files FILE_FORMAT = (TYPE = JSON)")
    assert client.rows("SELECT payload:a::INT FROM t") == [(1,)]


def test_list_and_remove_know_paths(client: Client, file: Path) -> None:
    client.put(file, "@files/one")
    client.put(file, '@"DB"."S".files/two')
    assert [row[0] for row in client.rows("LIST @files")] == ["files/one/a.ndjson.gz", "files/two/a.ndjson.gz"]
    assert client.rows("REMOVE @files/one") == [("files/one/a.ndjson.gz", "removed")]
    assert [row[0] for row in client.rows("LIST @files/")] == ["files/two/a.ndjson.gz"]


def test_a_stage_that_is_not_there_is_an_error(client: Client, file: Path) -> None:
    for sql in (f"PUT 'file://{file}' @nowhere", "LIST @nowhere", "REMOVE @nowhere"):
        assert client.fails(sql) == 2003


def test_a_dropped_stage_loses_its_files(client: Client, file: Path) -> None:
    client.put(file, "@files")
    client.rows("DROP STAGE files")
    assert client.fails("LIST @files") == 2003
    client.rows("CREATE STAGE files")
    assert client.rows("LIST @files") == []


def test_sessions_share_a_stage(client: Client, connect: Connect, file: Path) -> None:
    client.put(file, "@files")
    other = connect(database="db", schema="s")
    assert other.put(file, "@files") == "SKIPPED"


def test_get_is_not_there(client: Client, tmp_path: Path) -> None:
    assert client.fails(f"GET @files 'file://{tmp_path}'") == 603


def test_files_arrive_as_they_are(client: Client, fake_snowflake: FakeSnowflake, tmp_path: Path) -> None:
    content = gzip.compress(b"".join(b'{"n": %d}\n' % number for number in range(50_000)))
    (tmp_path / "large.ndjson.gz").write_bytes(content)
    client.put(tmp_path / "large.ndjson.gz", "@files")
    assert client.rows("LIST @files")[0][1] == len(content)
    assert fake_snowflake.faults_left() == 0
