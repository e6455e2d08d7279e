"""Logs: one record a line whatever is logged, in UTC, without credentials, and whose call it was."""

import json
import logging
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from tests.cli.cli_process import Cli
from tests.cli.query_runner import submitted

from snowledger import logs
from snowledger.redaction import MAX_CHARS, redacted
from snowledger_queue import correlated

FORGERY = "1\n2026-11-21T00:00:00.000000Z ERROR - forged: \x1b[2J\x9b\u2028\u202e"
LOGGER = logging.getLogger("snowledger_server.test")


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    """Leaves the root logger as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(before[0]):
        handler.close()
    root.handlers[:], root.level = before
    for name in logs.OWN:
        logging.getLogger(name).setLevel(logging.NOTSET)


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_text_forges_a_record_or_drives_a_terminal(form: str, tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    logs.configure("info", form, file)
    LOGGER.info("asked %s", FORGERY)
    LOGGER.error("failed", exc_info=ValueError(FORGERY))
    content = file.read_text(encoding="utf-8")
    assert content.count("\n") == 2
    assert content.replace("\n", "").isprintable()
    assert content.count("ValueError: 1") == 1
    assert "\\x1b[2J" in content or "\\u001b[2J" in content


def test_a_json_record_says_when_what_and_for_whom(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    logs.configure("info", "json", file)
    before = datetime.now(UTC)
    with correlated("cdesk_0123abcd"):
        LOGGER.warning("%d events", 3)
    LOGGER.info(FORGERY)
    first, second = records(file.read_text(encoding="utf-8"))
    assert before <= datetime.fromisoformat(first.pop("ts")) <= datetime.now(UTC)
    assert first == {
        "level": "warning",
        "logger": "snowledger_server.test",
        "query_tag": "cdesk_0123abcd",
        "message": "3 events",
    }
    assert (second["query_tag"], second["message"]) == (None, FORGERY)


def test_a_console_line_begins_with_the_time_in_utc_the_level_and_the_tag(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    logs.configure("info", "console", file)
    with correlated("cdesk_0123abcd"):
        LOGGER.info("hello")
    LOGGER.info("bye")
    first, second = (line.split(" ", 1) for line in file.read_text(encoding="utf-8").splitlines())
    assert datetime.fromisoformat(first[0]).tzinfo == UTC
    assert first[1] == "INFO cdesk_0123abcd snowledger_server.test: hello"
    assert second[1] == "INFO - snowledger_server.test: bye"


def test_a_log_file_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_FILE_BYTES", 1000)
    file = tmp_path / "x.log"
    logs.configure("info", "console", file)
    for number in range(50):
        LOGGER.info("%d", number)
    assert {path.name for path in tmp_path.iterdir()} == {"x.log", "x.log.1"}
    assert file.stat().st_size <= 1000


def test_debug_is_for_what_is_our_own(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    logs.configure("debug", "json", file)
    LOGGER.debug("ours")
    logging.getLogger("somebody").debug("what a client sent")
    assert [record["message"] for record in records(file.read_text(encoding="utf-8"))] == ["ours"]


@pytest.mark.parametrize(
    "text",
    [
        "password=CANARY",
        "connect(user='x', password='CANARY CANARY', role='y')",
        '{"private_key_file_pwd": "CANARY"}',
        "SNOWFLAKE_TOKEN: CANARY",
        "Authorization: Bearer CANARY0123456789",
        "authorization: basic CANARY0123456789==",
        "slt_0a1b2c3d_CANARY",
        "eyJhbGciOiJI.CANARY.x-y_z",
        "cannot reach https://me:CANARY@proxy:8080/x",
        "cannot reach https://me:p@CANARY@proxy:8080/x",
        "'AWS_SECRET_KEY': 'CANARY'",
        "aws_secret_access_key=CANARY",
        "access_key=CANARY",
        "private_key=CANARY",
        "https://x.blob.example/a?sv=1&sig=CANARY&se=2",
        "X-Amz-Signature=CANARY",
        r"{\"password\": \"CANARY\"}",
        r"{\\\"password\\\": \\\"CANARY\\\"}",
        "connect(user='u', password=b'CANARY')",
        "password='it''s-CANARY'",
        'password="a\'CANARY"',
        r'password="a\"CANARY"',
        "password=a)CANARY",
        "pwd  = a;b&CANARY",
        "Proxy-Authorization: Negotiate CANARY",
        "Authorization: CANARY",
        "cookie: session=CANARY",
        "postgres://CANARY@host/db",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nCANARY\n-----END ENCRYPTED PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_credential_is_cut_out(text: str) -> None:
    assert "CANARY" not in redacted(f"before {text} after")
    assert redacted(f"before {text} after").startswith("before ")


@pytest.mark.parametrize(
    "part", ["-eyJ", "a", "-----BEGIN ", "://a@", "password", 'password="', "bearer ", "_secret_key"]
)
def test_however_long_a_text_is_it_is_looked_through_at_once(part: str) -> None:
    start = time.process_time()
    assert len(redacted(part * 100_000)) < MAX_CHARS + 100
    assert time.process_time() - start < 1


def test_other_text_stays_as_it_is() -> None:
    text = "the tokens file /x/tokens.json is damaged; batch 0123abcd: 3 events; see https://example.com/a?b=c"
    assert redacted(text) == text


async def test_the_tag_of_a_call_is_in_the_log_in_the_event_and_in_what_the_uploader_says_of_its_query(
    cli: Cli,
) -> None:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "snowledger", "serve", "--no-uploader", "--log-format", "json"],
        env=cli.environment({"SNOWLEDGER_LOG_LEVEL": "debug"}),
        cwd=cli.folder,
    )
    with (cli.folder / "stderr").open("w+") as errors:
        async with Client(stdio_client(server, errlog=errors)) as client:
            await client.call_tool("log_event", {"activity": "cdesk.user_asked", "feature_json": {}})
            await client.call_tool("log_event", {"activity": FORGERY, "feature_json": {}})
        errors.seek(0)
        said = records(errors.read())
    [event] = cli.queued()
    answered, refused = (
        [record for record in said if record["logger"] == "snowledger_server._server" and word in record["message"]]
        for word in ("log_event answered", "log_event refused: ")
    )
    assert [record["query_tag"] for record in answered] == [event["_query_tag"]]
    assert len({record["query_tag"] for record in (*answered, *refused)}) == 2

    ticket = submitted(cli.spool)
    done = cli.run("upload", "--once", SNOWLEDGER_LOG_LEVEL="info", SNOWLEDGER_LOG_FORMAT="json")
    said = records(done.stderr)
    of_query = [record for record in said if ticket.ticket_id in record["message"]]
    assert {record["query_tag"] for record in of_query} == {ticket.query_tag}
    of_batch = [record for record in said if record["message"].startswith("batch ")]
    assert of_batch
    assert all(record["query_tag"] == f"cdesk_{record['message'][6:14]}" for record in of_batch)


def test_the_last_words_are_a_record_where_records_are_asked_for(cli: Cli) -> None:
    cli.home.mkdir()
    (cli.home / "warehouse.duckdb").write_bytes(b"no database")
    cli.home.chmod(0o700)
    [record] = records(cli.run("upload", "--log-format", "json", code=3).stderr)
    assert record["level"] == "critical"
    assert "warehouse.duckdb" in record["message"]
