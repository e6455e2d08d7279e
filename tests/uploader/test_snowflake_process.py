"""The real command on Snowflake: it loads, says when it cannot log in, and keeps the queue meanwhile."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest
from tests.acceptance.ledger import Ledger, wait_until
from tests.fake_snowflake.control import FakeSnowflake
from tests.uploader.snowflake_samples import PLACE, prepare
from tests.uploader.uploader_samples import raw_line, sample_lines, seal

from snowledger_queue import SegmentName, read_uploader_status

CANARY = "canary-77c0"


@pytest.fixture
def ledger(fake_snowflake: FakeSnowflake, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    prepare(fake_snowflake, tmp_path / "snowflake", monkeypatch)
    ledger.environment |= {
        "SNOWFLAKE_HOME": str(tmp_path / "snowflake"),
        "SNOW_CONNECTION": "fake",
        "SNOWLEDGER_WAREHOUSE": "snowflake",
    }
    return ledger


def state(ledger: Ledger) -> str | None:
    found = read_uploader_status(ledger.spool)
    return None if found is None else found.state


def numbers(fake: FakeSnowflake) -> list[int]:
    found = [orjson.loads(row[0]) for row in fake.sql(f'SELECT payload::VARCHAR FROM {PLACE}."RAW_EVENTS"')]  # noqa: S608
    return sorted(event["feature_json"]["number"] for event in found if event["customer"] == "acme")


def test_once_loads_what_is_there_and_warns_of_the_password(fake_snowflake: FakeSnowflake, ledger: Ledger) -> None:
    for number in range(3):
        seal(ledger.spool, sample_lines(10, 10 * number), number)
    done = ledger.run("upload", "--once")
    assert "loaded 30 events in 1 batch: 30 new" in done.stdout
    assert "the connection fake logs in with a password" in done.stderr
    assert numbers(fake_snowflake) == list(range(30))
    assert not ledger.queued()
    assert fake_snowflake.sessions() == 0
    assert "snowflake.connector" not in done.stderr


def test_nobody_but_snowflake_is_asked(fake_snowflake: FakeSnowflake, ledger: Ledger) -> None:
    """What goes anywhere else goes to a proxy, which counts."""
    assert fake_snowflake.port
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            ledger.environment[name] = address
        ledger.environment |= {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
        ledger.environment.pop("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", None)
        seal(ledger.spool, sample_lines(1))
        assert "loaded 1 event" in ledger.run("upload", "--once").stdout
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_wrong_credentials_are_a_state_and_cost_no_event(fake_snowflake: FakeSnowflake, ledger: Ledger) -> None:
    home = Path(ledger.environment["SNOWFLAKE_HOME"])
    fake_snowflake.write_connections_toml(home, password=CANARY)
    assert ledger.spool.home.is_dir()
    process = ledger.start("upload")
    wait_until(lambda: state(ledger) == "authentication needed", "the state")
    seal(ledger.spool, sample_lines(5))
    wait_until(lambda: ledger.errors.count("wrong user name or password") > 1, "it tried to load")
    text = ledger.run("status").stdout
    assert "authentication needed" in text
    assert "mend the connection's entry in connections.toml" in text
    assert json.loads(ledger.run("status", "--json").stdout)["uploader"]["state"] == "authentication needed"
    assert sum(request.startswith("LOGIN") for request in fake_snowflake.requests()) == 1
    process.terminate()
    assert process.wait(15) == 0
    assert "snowflake.connector" not in ledger.errors
    assert CANARY not in ledger.errors + text + ledger.spool.uploader_status.read_text()
    fake_snowflake.write_connections_toml(home)
    ledger.run("upload", "--once")
    assert numbers(fake_snowflake) == list(range(5))


def test_once_ends_with_the_error(fake_snowflake: FakeSnowflake, ledger: Ledger) -> None:
    fake_snowflake.write_connections_toml(Path(ledger.environment["SNOWFLAKE_HOME"]), password=CANARY)
    seal(ledger.spool, sample_lines(5))
    done = ledger.run("upload", "--once", code=3)
    assert "wrong user name or password" in done.stderr
    assert CANARY not in done.stderr + done.stdout
    assert len(ledger.queued()) == 5


def test_a_poison_row_becomes_a_dead_letter(fake_snowflake: FakeSnowflake, ledger: Ledger) -> None:
    seal(ledger.spool, [*sample_lines(6), raw_line(9, b'{"number":}')])
    done = ledger.run("upload", "--once")
    assert "6 new" in done.stdout
    (letter,) = ledger.dead_letters()
    assert (letter.error_class, b'{"number":}' in letter.original) == ("rejected", True)
    assert numbers(fake_snowflake) == list(range(6))


def test_an_error_that_nothing_is_known_of_does_not_end_the_daemon(
    fake_snowflake: FakeSnowflake, ledger: Ledger
) -> None:
    fake_snowflake.fault("DESCRIBE", "error", code=999_999, message="something new")
    seal(ledger.spool, sample_lines(5))
    process = ledger.start("upload")
    wait_until(lambda: not ledger.queued(), "it is loaded")
    assert "something new" in ledger.errors
    process.terminate()
    assert process.wait(15) == 0
    assert numbers(fake_snowflake) == list(range(5))


def test_a_second_signal_ends_it_though_snowflake_hangs(fake_snowflake: FakeSnowflake, ledger: Ledger) -> None:
    fake_snowflake.fault("^REMOVE", "stall", seconds=60.0)
    assert ledger.spool.home.is_dir()
    process = ledger.start("upload")
    wait_until(lambda: any(request.startswith("REMOVE") for request in fake_snowflake.requests()), "it removes files")
    process.terminate()
    wait_until(lambda: "finishing the running batch" in ledger.errors, "it has heard")
    process.terminate()
    assert process.wait(8) == 0


def test_doctor_logs_in_and_says_what_is_missing(fake_snowflake: FakeSnowflake, ledger: Ledger) -> None:
    assert ledger.spool.home.is_dir()
    assert "logs in and finds its tables in CLAUDE_LOGS.ACTIVITIES" in ledger.run("doctor").stdout
    fake_snowflake.sql(f'DROP TABLE {PLACE}."RAW_EVENTS"')
    assert "snowledger ddl apply" in ledger.run("doctor", code=1).stdout


def test_few_events_wait_for_others_when_told_so(fake_snowflake: FakeSnowflake, ledger: Ledger) -> None:
    ledger.environment["SNOWLEDGER_BATCH_AGE_S"] = "3600"
    assert ledger.spool.home.is_dir()
    process = ledger.start("upload")
    wait_until(lambda: state(ledger) == "idle", "the uploader is up")
    name = SegmentName(time.time_ns() // 1_000_000, "0123456789ab", 1, None).sealed(5)
    (ledger.spool.queue / name).write_bytes(b"".join(sample_lines(5)))
    assert "5 events" in ledger.run("status").stdout  # which takes longer than the uploader's looks are apart
    seal(ledger.spool, sample_lines(5, 5), 2)  # years old
    wait_until(lambda: not ledger.queued(), "both are loaded")
    assert len(fake_snowflake.sql(f'SELECT DISTINCT _batch_id FROM {PLACE}."RAW_EVENTS"')) == 1  # noqa: S608
    assert numbers(fake_snowflake) == list(range(10))
    process.terminate()
    assert process.wait(15) == 0


def test_the_connector_is_not_loaded_for_duckdb(ledger: Ledger) -> None:
    ledger.environment["SNOWLEDGER_WAREHOUSE"] = "duckdb"
    seal(ledger.spool, sample_lines(5))
    command = [sys.executable, "-X", "importtime", "-m", "snowledger", "upload", "--once"]
    done = subprocess.run(
        command, cwd=ledger.folder, env=ledger.environment, capture_output=True, text=True, check=True, timeout=50
    )
    assert "5 new" in done.stdout
    assert "snowledger_uploader._snowflake" in done.stderr
    assert "snowflake.connector" not in done.stderr
