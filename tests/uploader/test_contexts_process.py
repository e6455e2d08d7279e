"""The uploader as a process keeps the contexts: on request, at intervals, and whatever becomes of its files."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from tests.acceptance.ledger import Ledger, wait_until
from tests.command_server import Command
from tests.uploader.uploader_samples import context, counted, sample_event, seal

from snowledger_queue import UploaderStatus, read_uploader_status, server_presence, timestamp
from snowledger_uploader import UploaderConfig, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")

NOW = timestamp(datetime.now(UTC))
ASKED = "cdesk.user_asked"


def lines(count: int, start: int = 0) -> list[bytes]:
    """Events of today."""
    return [sample_event(number, NOW).line for number in range(start, start + count)]


def state(ledger: Ledger) -> UploaderStatus:
    status = read_uploader_status(ledger.spool)
    return status or UploaderStatus(pid=0, state="none", updated_at="")


def idle(ledger: Ledger, process: Command) -> bool:
    """Whether the uploader is up and has closed the warehouse."""
    status = state(ledger)
    return status.pid == process.pid and status.state == "idle" and status.contexts_as_of is not None


def started(ledger: Ledger, **variables: str) -> Command:
    process = ledger.start("upload", **variables)
    wait_until(lambda: idle(ledger, process), "the uploader is up")
    return process


def loaded(ledger: Ledger, count: int) -> None:
    seal(ledger.spool, lines(count))
    ledger.run("upload", "--once")
    assert counted(ledger.spool) == {ASKED: count}


def as_of(ledger: Ledger) -> str:
    return context(ledger.spool).as_of or ""


def refreshes(ledger: Ledger) -> list[str]:
    """The reasons of the events `cdesk.context_refreshed` in the warehouse, in order."""
    sql = "SELECT feature_json ->> '$.reason' FROM activities.events WHERE activity = ? AND customer = ? ORDER BY ts"
    return [reason for (reason,) in ledger.rows(sql, "cdesk.context_refreshed", "snowledger")]


def test_an_idle_uploader_answers_a_request(ledger: Ledger) -> None:
    loaded(ledger, 3)
    started(ledger)
    before = as_of(ledger)
    asked = time.monotonic()
    ledger.spool.request_refresh()
    wait_until(lambda: as_of(ledger) > before, "the contexts are newer")
    assert time.monotonic() - asked < 2
    assert not ledger.spool.refresh_request.exists()
    wait_until(lambda: state(ledger).contexts_as_of == as_of(ledger), "the status tells it")
    assert counted(ledger.spool) == {ASKED: 3}


def test_a_state_that_is_deleted_while_it_runs_is_back_after_a_request(ledger: Ledger) -> None:
    loaded(ledger, 5)
    started(ledger)
    for path in ledger.home.glob("state.db*"):
        path.unlink()
    assert counted(ledger.spool) == {}
    ledger.spool.request_refresh()
    wait_until(lambda: counted(ledger.spool) == {ASKED: 5}, "the contexts are back")
    wait_until(lambda: refreshes(ledger) == ["load", "rebuild"], "the rebuild is on record")


def test_a_state_that_was_deleted_is_rebuilt_at_the_start(ledger: Ledger) -> None:
    loaded(ledger, 5)
    for path in ledger.home.glob("state.db*"):
        path.unlink()
    started(ledger)
    assert counted(ledger.spool) == {ASKED: 5}
    wait_until(lambda: refreshes(ledger) == ["load", "rebuild"], "the rebuild is on record")


def test_a_state_that_is_outdated_catches_up_at_the_start(ledger: Ledger) -> None:
    loaded(ledger, 2)
    copy = ledger.spool.state.read_bytes()
    seal(ledger.spool, lines(3, 2))
    ledger.run("upload", "--once")
    ledger.spool.state.write_bytes(copy)
    ledger.run("upload", "--once")
    assert counted(ledger.spool) == {ASKED: 5}
    assert refreshes(ledger) == ["load", "load", "interval"]


def test_a_warehouse_that_is_replaced_by_another_brings_its_own_contexts(ledger: Ledger, tmp_path: Path) -> None:
    other = Ledger(tmp_path / "other")
    other.folder.mkdir()
    loaded(other, 2)
    loaded(ledger, 5)
    started(ledger)
    other.warehouse.replace(ledger.warehouse)
    ledger.spool.request_refresh()
    wait_until(lambda: counted(ledger.spool) == {ASKED: 2}, "the contexts are the other warehouse's")


def test_while_a_server_lives_contexts_are_refreshed_at_intervals(ledger: Ledger) -> None:
    loaded(ledger, 1)
    started(ledger, SNOWLEDGER_CONTEXT_REFRESH_S="0.1")
    first = as_of(ledger)
    with server_presence(ledger.spool):
        wait_until(lambda: as_of(ledger) > first, "a first refresh")
        second = as_of(ledger)
        wait_until(lambda: as_of(ledger) > second, "a second refresh")
    assert refreshes(ledger) == ["load"]  # nothing was new


def test_a_warehouse_that_is_locked_when_asked_is_named_and_read_later(ledger: Ledger) -> None:
    loaded(ledger, 3)
    process = started(ledger)
    for path in ledger.home.glob("state.db*"):
        path.unlink()
    with duckdb.connect(str(ledger.warehouse)):
        for _ in range(2):
            ledger.spool.request_refresh()
            wait_until(lambda: not ledger.spool.refresh_request.exists(), "the request was taken")
            wait_until(lambda: "lock" in str(state(ledger).contexts_problem), "the status names the lock")
        assert ledger.errors.count("contexts are not up to date") == 1
        assert state(ledger).problem is None
    ledger.spool.request_refresh()
    wait_until(lambda: counted(ledger.spool) == {ASKED: 3}, "the contexts are back")
    wait_until(lambda: state(ledger).contexts_problem is None, "the problem is over")
    assert process.poll() is None


def test_what_failed_is_tried_again_without_being_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snowledger_uploader._contexts.RETRY_S", 0.0)
    ledger = Ledger(tmp_path)
    loaded(ledger, 3)
    for path in ledger.home.glob("state.db*"):
        path.unlink()
    ledger.spool.state.mkdir()
    (ledger.spool.state / "something").touch()
    looks = iter(range(1000))

    def servers(_spool: object) -> int:
        if next(looks) == 3:
            (ledger.spool.state / "something").unlink()
            ledger.spool.state.rmdir()
        return int(counted(ledger.spool) == {})

    monkeypatch.setattr("snowledger_uploader._run.live_servers", servers)
    run(UploaderConfig(home=ledger.home, duckdb_path=ledger.warehouse, version="1.2.3", exit_when_unused=True))
    assert counted(ledger.spool) == {ASKED: 3}


def test_a_state_that_cannot_be_used_keeps_nothing_from_being_loaded(ledger: Ledger) -> None:
    ledger.spool.state.mkdir()
    seal(ledger.spool, lines(3))
    (ledger.spool.state.with_name("state.db.bad")).mkdir()
    (ledger.spool.state.with_name("state.db.bad") / "something").touch()
    ledger.run("upload", "--once")
    assert len(ledger.delivered()) == 3
    assert ledger.queued() == []
    assert "state.db" in str(state(ledger).contexts_problem)
