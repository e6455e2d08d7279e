"""`snowledger upload` as a process runs queries: killed, told to end, with a backlog, and only as long as it must."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import psutil
import pytest
from tests.acceptance.ledger import Ledger, wait_until
from tests.uploader.crashing_uploader import QUERY_POINTS
from tests.uploader.query_samples import (
    artifact,
    event,
    finished,
    parquet,
    running,
    set_kill_switch,
    submitted,
    ticket,
    write_templates,
)
from tests.uploader.test_duckdb_file import held_by_another_program
from tests.uploader.uploader_samples import raw_line, seal

from snowledger_queue import server_presence

SCRIPT = str(Path(__file__).with_name("crashing_uploader.py"))

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


@pytest.fixture
def templates(ledger: Ledger) -> Path:
    folder = write_templates(ledger.folder / "templates")
    ledger.environment["SNOWLEDGER_TEMPLATES_DIR"] = str(folder)
    return folder


def fill(ledger: Ledger, count: int = 300) -> None:
    seal(ledger.spool, [event(number).line for number in range(count)])
    ledger.run("upload", "--once")


def test_once_loads_what_is_there_runs_what_is_asked_and_loads_what_that_left(ledger: Ledger, templates: Path) -> None:
    fill(ledger)
    asked = submitted(ledger.spool, "counts", templates)
    ledger.run("upload", "--once")
    done = ticket(ledger.spool, asked)
    assert (done.status, done.row_count) == ("succeeded", 1)
    assert ledger.queued() == []
    sql = (
        "SELECT activity FROM activities.events WHERE customer = 'acme' AND activity <> 'cdesk.user_asked' ORDER BY ts"
    )
    logged = [activity for (activity,) in ledger.rows(sql)]
    assert logged == ["cdesk.sql_executed", "cdesk.sql_completed", "cdesk.artifact_created"]
    [(path,)] = ledger.rows("SELECT path FROM activities.artifacts WHERE ticket_id = ?", asked)
    assert parquet(Path(path)) == [("cdesk.user_asked", 300)]


def test_an_uploader_that_is_no_longer_needed_runs_what_is_asked_first(ledger: Ledger, templates: Path) -> None:
    fill(ledger)
    with server_presence(ledger.spool):
        process = ledger.start("upload", "--exit-when-unused")
        asked = [submitted(ledger.spool, name, templates) for name in ("counts", "numbers", "activity_counts")]
    assert process.wait(20) == 0
    assert [ticket(ledger.spool, one).status for one in asked] == ["succeeded"] * 3
    assert ledger.queued() == []


def test_killed_while_a_query_runs_the_next_uploader_runs_it_again(ledger: Ledger, templates: Path) -> None:
    fill(ledger)
    asked = submitted(ledger.spool, "endless", templates)
    process = ledger.start("upload")
    running(ledger.spool, asked)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert ticket(ledger.spool, asked).status == "running"
    second = ledger.start("upload", SNOWLEDGER_QUERY_TIME_LIMIT_S="1")
    done = finished(ledger.spool, asked)
    assert (done.status, done.attempts) == ("failed", 2)
    assert "time limit" in (done.error or "")
    again = submitted(ledger.spool, "counts", templates)
    assert finished(ledger.spool, again).status == "succeeded"
    assert second.poll() is None
    assert list(ledger.spool.work.glob("query-*")) == []


def test_a_query_that_was_cut_short_by_a_kill_succeeds_the_second_time(ledger: Ledger, templates: Path) -> None:
    fill(ledger)
    asked = submitted(ledger.spool, "pairs", templates)
    with held_by_another_program(ledger.warehouse):  # so that it is not over before the kill
        process = ledger.start("upload")
        running(ledger.spool, asked)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    ledger.run("upload", "--once")
    done = ticket(ledger.spool, asked)
    assert (done.status, done.attempts, done.row_count) == ("succeeded", 2, 90_000)
    assert len(parquet(artifact(ledger.spool, asked))) == 90_000


@pytest.mark.parametrize("point", QUERY_POINTS)
def test_after_a_crash_at_any_step_there_is_one_result_and_it_is_on_record_once(ledger: Ledger, point: str) -> None:
    fill(ledger)
    asked = submitted(ledger.spool, "activity_counts")
    crashed = subprocess.run([sys.executable, SCRIPT, str(ledger.home), point], check=False, timeout=30)
    assert crashed.returncode == -signal.SIGKILL
    ledger.run("upload", "--once")
    done = ticket(ledger.spool, asked)
    assert (done.status, done.attempts) == ("succeeded", 1 if point == "after the end" else 2)
    assert [file.stem for file in ledger.spool.artifacts.iterdir()] == [asked]
    assert len(parquet(artifact(ledger.spool, asked))) == done.row_count
    assert ledger.rows("SELECT count(*) FROM activities.artifacts WHERE ticket_id = ?", asked) == [(1,)]
    assert list(ledger.spool.work.glob("query-*")) == []


def test_killed_twice_it_has_failed_with_that_reason(ledger: Ledger, templates: Path) -> None:
    fill(ledger)
    asked = submitted(ledger.spool, "endless", templates)
    for attempt in (1, 2):
        process = ledger.start("upload")
        running(ledger.spool, asked, attempt)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    ledger.run("upload", "--once")
    done = ticket(ledger.spool, asked)
    assert done.status == "failed"
    assert "stopped twice" in (done.error or "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_puts_the_query_back_and_goes_at_once(
    ledger: Ledger, templates: Path, number: signal.Signals
) -> None:
    fill(ledger)
    asked = submitted(ledger.spool, "endless", templates)
    process = ledger.start("upload")
    running(ledger.spool, asked)
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(10) == 0
    assert time.monotonic() - began < 3
    back = ticket(ledger.spool, asked)
    assert (back.status, back.attempts) == ("queued", 0)
    assert "Traceback" not in ledger.errors


def test_a_backlog_is_loaded_and_queries_are_answered_at_the_same_time(ledger: Ledger, templates: Path) -> None:
    fill(ledger)
    count = 80_000
    for sequence, start in enumerate(range(0, count, 20_000)):
        seal(ledger.spool, [raw_line(number, b'{"n":1}') for number in range(start, start + 20_000)], sequence)
    ledger.start("upload")
    answers = []
    while any(found.name.writer == "0123456789ab" for found in ledger.spool.sealed_segments()):
        done = finished(ledger.spool, submitted(ledger.spool, "counts", templates))
        assert done.status == "succeeded", done.error
        found = dict(orjson.loads(done.sample or ""))
        answers.append(found["cdesk.user_asked"])
    assert answers == sorted(answers)
    assert all(number in range(300, count + 301) for number in answers)
    done = finished(ledger.spool, submitted(ledger.spool, "counts", templates))
    assert dict(orjson.loads(done.sample or ""))["cdesk.user_asked"] == count + 300


def test_with_the_kill_switch_on_events_are_loaded_and_nothing_runs(ledger: Ledger, templates: Path) -> None:
    fill(ledger)
    asked = submitted(ledger.spool, "counts", templates)
    set_kill_switch(ledger.spool, on=True)
    seal(ledger.spool, [event(number).line for number in range(300, 310)])
    ledger.run("upload", "--once")
    assert ticket(ledger.spool, asked).status == "cancelled"
    assert len(ledger.delivered()) == 310


def test_bad_templates_are_named_in_the_log_and_the_others_are_served(ledger: Ledger, templates: Path) -> None:
    (templates / "broken.sql").write_text("SELECT 1\n")
    (templates / "unruly.sql").write_text((templates / "counts.sql").read_text().replace("$customer", "'acme'"))
    fill(ledger)
    ledger.start("upload")
    wait_until(lambda: "unruly.sql" in ledger.errors, "the check is over")
    assert "broken.sql" in ledger.errors
    asked = submitted(ledger.spool, "counts", templates)
    assert finished(ledger.spool, asked).status == "succeeded"


def test_a_result_of_two_million_rows_is_capped_and_the_process_stays_small(ledger: Ledger, templates: Path) -> None:
    fill(ledger, 1_500)
    ledger.environment["SNOWLEDGER_QUERY_ROW_CAP"] = "4000000"
    ledger.environment["SNOWLEDGER_QUERY_BYTE_CAP"] = "4MiB"
    process = psutil.Process(ledger.start("upload").pid)
    asked = submitted(ledger.spool, "pairs", templates)
    largest = 0

    def over() -> bool:
        nonlocal largest
        largest = max(largest, process.memory_info().rss)
        return ticket(ledger.spool, asked).finished_at is not None

    wait_until(over, "the query has ended", 50)
    done = ticket(ledger.spool, asked)
    assert (done.status, done.truncated) == ("succeeded", True)
    assert (done.bytes or 0) <= 4 * 2**20
    assert done.row_count == parquet(artifact(ledger.spool, asked), "SELECT count(*) FROM result")[0][0]
    assert largest < 512 * 2**20
