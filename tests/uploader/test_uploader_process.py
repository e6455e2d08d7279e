"""`snowledger upload` as a process: one per spool, and an orderly end whenever it is asked for."""

import contextlib
import functools
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pytest
from tests.acceptance.ledger import Ledger, wait_until
from tests.command_server import Command
from tests.uploader.fake_warehouse import FakeWarehouse
from tests.uploader.uploader_samples import damaged, loaded_lines, raw_line, sample_event, sample_lines, seal

from snowledger_queue import (
    BreakerStatus,
    SegmentName,
    Spool,
    UploaderStatus,
    open_spool,
    read_uploader_status,
    server_presence,
)
from snowledger_uploader import (
    DuckDBWarehouse,
    FormedBatch,
    UploaderConfig,
    WarehouseRefusedError,
    WarehouseUnavailableError,
    _run,
    form_batch,
    run,
)
from snowledger_uploader._breaker import THRESHOLD
from snowledger_uploader._run import STOP_S

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")

MANY = 120_000
COUNT = "SELECT count(*), count(DISTINCT activity_id) FROM activities.raw_events WHERE payload LIKE ?"
TOLD = "FROM activities.events WHERE activity = 'cdesk.retry_attempted' AND feature_json ->> 'outcome' = ?"
HOLDER = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
WITHOUT_UMASK = "import os, runpy; os.umask(0); runpy.run_module('snowledger', run_name='__main__')"


def state(ledger: Ledger) -> UploaderStatus:
    status = read_uploader_status(ledger.spool)
    return status or UploaderStatus(pid=0, state="none", updated_at="")


def breaker(ledger: Ledger) -> BreakerStatus:
    found = state(ledger).breaker
    assert found is not None
    return found


def started(ledger: Ledger, *arguments: str) -> Command:
    process = ledger.start("upload", *arguments)
    wait_until(lambda: state(ledger).pid == process.pid and state(ledger).state != "starting", "the uploader is up")
    return process


def seal_many(spool: Spool, count: int) -> None:
    """So many events that loading them takes a good part of a second."""
    for sequence, start in enumerate(range(0, count, 40_000)):
        seal(spool, many_lines(start), sequence)


@functools.cache
def many_lines(start: int) -> list[bytes]:
    return [raw_line(number, b'{"n":1}') for number in range(start, start + 40_000)]


def test_whatever_ends_it_the_warehouse_hears_that_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(FakeWarehouse):
        told: ClassVar[list[bool]] = []

        async def open(self) -> None:
            raise WarehouseRefusedError("not a warehouse")

        async def rest(self, *, over: bool = False) -> None:
            self.told.append(over)

    monkeypatch.setattr(_run, "make_warehouse", lambda *_: Refusing())
    with pytest.raises(WarehouseRefusedError):
        run(UploaderConfig(tmp_path / "spool", tmp_path / "x.duckdb", "0"))
    assert Refusing.told == [True]


@pytest.mark.parametrize("batch_age_s", [0.0, 3600.0])
def test_after_the_clock_was_set_back_events_do_not_wait_until_it_has_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_age_s: float
) -> None:
    warehouse = FakeWarehouse(on_load=lambda _batch: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(_run, "make_warehouse", lambda *_: warehouse)
    spool = open_spool(tmp_path / "spool")
    path = seal(spool, sample_lines(1)).path
    path.rename(spool.queue / SegmentName(time.time_ns() // 1_000_000 + 600_000, "0123456789ab", 1, 1).sealed(1))
    late = threading.Timer(5, signal.raise_signal, [signal.SIGTERM])
    late.start()
    run(UploaderConfig(spool.home, tmp_path / "x.duckdb", "0", batch_age_s=batch_age_s))
    late.cancel()
    assert len(warehouse.rows) == 1


def test_a_young_segment_that_is_no_plain_file_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = open_spool(tmp_path / "spool")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(sample_event(99).line)
    planted: list[Path] = []

    class Planting(FakeWarehouse):
        async def open(self) -> None:
            await super().open()
            if not planted:
                time.sleep(0.01)  # noqa: ASYNC251 - later than the start in the milliseconds of a name, too
                now_ms = time.time_ns() // 1_000_000
                planted.append(spool.queue / SegmentName(now_ms, "ffffffffffff", 1, None).sealed(1))
                planted[0].hardlink_to(elsewhere)
                good = seal(spool, sample_lines(1)).path
                good.rename(spool.queue / SegmentName(now_ms, "0123456789ab", 1, None).sealed(1))

    warehouse = Planting(on_load=lambda _batch: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(_run, "make_warehouse", lambda *_: warehouse)
    late = threading.Timer(5, signal.raise_signal, [signal.SIGTERM])
    late.start()
    try:
        run(UploaderConfig(spool.home, tmp_path / "x.duckdb", "0", batch_age_s=3600.0))
    finally:
        late.cancel()
    assert len(warehouse.rows) == 1
    assert planted[0].exists()
    assert list(spool.queue.glob("*-0123456789ab-*")) == []


def test_a_second_uploader_is_refused_and_told_who_is_first(ledger: Ledger) -> None:
    first = started(ledger)
    for arguments in (["upload"], ["upload", "--once"]):
        refused = ledger.run(*arguments, code=4)
        assert f"process {first.pid}" in refused.stderr
    assert first.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_uploader_ends_at_once_when_told(ledger: Ledger, number: signal.Signals) -> None:
    process = started(ledger)
    wait_until(lambda: state(ledger).state == "idle", "idle")
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(10) == 0
    assert time.monotonic() - began < 2
    assert state(ledger).state == "stopped"


def test_told_while_loading_it_finishes_or_rolls_back_and_the_rest_loads_later(ledger: Ledger) -> None:
    seal_many(ledger.spool, MANY)
    process = ledger.start("upload")
    wait_until(lambda: state(ledger).state == "loading", "loading")
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert "Traceback" not in ledger.errors
    assert state(ledger).state == "stopped"
    # One more may be the event that tells of the schema.
    assert state(ledger).events - (MANY - len(ledger.queued())) in {0, 1}
    ledger.run("upload", "--once")
    assert ledger.rows(COUNT, "%user_asked%") == [(MANY, MANY)]


def test_a_second_signal_rolls_the_running_batch_back(ledger: Ledger) -> None:
    seal_many(ledger.spool, MANY)
    process = ledger.start("upload")
    wait_until(lambda: state(ledger).state == "loading", "loading")
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: "finishing the running batch" in ledger.errors, "the first signal is heard")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert time.monotonic() - began < STOP_S, "it does not take all the time that the first signal leaves"
    assert "Traceback" not in ledger.errors
    ledger.run("upload", "--once")
    assert ledger.rows(COUNT, "%user_asked%") == [(MANY, MANY)]


def test_it_ends_by_itself_once_the_last_server_is_gone_and_the_queue_is_empty(ledger: Ledger) -> None:
    with server_presence(ledger.spool):
        process = started(ledger, "--exit-when-unused")
        seal(ledger.spool, sample_lines(3), 1)
        wait_until(lambda: len(ledger.delivered()) == 3, "loaded while the server lives")
        assert process.poll() is None
        seal(ledger.spool, sample_lines(3, 3), 2)
    assert process.wait(10) == 0
    assert loaded_lines(ledger.warehouse) == sample_lines(6)
    assert ledger.queued() == []


def test_what_is_sealed_in_the_last_moment_is_drained_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path)
    seal(ledger.spool, sample_lines(1), 1)
    close = DuckDBWarehouse.close
    late = [sample_lines(1, 1)]

    async def close_while_a_server_comes_and_goes(warehouse: DuckDBWarehouse) -> None:
        await close(warehouse)
        if late:
            seal(ledger.spool, late.pop(), 2)

    monkeypatch.setattr(DuckDBWarehouse, "close", close_while_a_server_comes_and_goes)
    run(UploaderConfig(home=ledger.home, duckdb_path=ledger.warehouse, version="1.2.3", exit_when_unused=True))
    assert ledger.queued() == []


def test_a_spool_that_somebody_opens_while_it_starts_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path)
    seal(ledger.spool, sample_lines(1))
    remove = shutil.rmtree

    def remove_while_a_server_starts(folder: Path) -> None:
        remove(folder)
        open_spool(ledger.home)

    monkeypatch.setattr("snowledger_uploader._run.shutil.rmtree", remove_while_a_server_starts)
    run(UploaderConfig(home=ledger.home, duckdb_path=ledger.warehouse, version="1.2.3", once=True))
    assert ledger.queued() == []


def test_when_its_lock_file_is_deleted_it_stops_before_a_second_one_works_too(ledger: Ledger) -> None:
    process = started(ledger)
    ledger.spool.uploader_lock.unlink()
    assert process.wait(10) == 1  # not 3, which a supervisor takes for "do not restart"
    assert "uploader.lock is gone" in ledger.errors
    assert "uploader.lock is gone" in str(state(ledger).problem)


def test_once_gives_up_on_a_locked_warehouse_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snowledger_uploader._run.GIVE_UP_S", 0.5)
    ledger = Ledger(tmp_path)
    seal(ledger.spool, sample_lines(2))
    command = [sys.executable, "-c", HOLDER, str(ledger.warehouse)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        config = UploaderConfig(home=ledger.home, duckdb_path=ledger.warehouse, version="1.2.3", once=True)
        with pytest.raises(WarehouseUnavailableError, match="lock"):
            run(config)
        holder.communicate(b"")
    assert len(ledger.queued()) == 2
    assert "lock" in str(state(ledger).problem)


def test_a_locked_warehouse_is_waited_for_and_named_meanwhile(ledger: Ledger) -> None:
    seal(ledger.spool, sample_lines(2))
    with duckdb.connect(str(ledger.warehouse)):
        started(ledger)
        wait_until(lambda: state(ledger).state == "waiting", "waiting")
        assert "warehouse.duckdb" in str(state(ledger).problem)
        wait_until(lambda: breaker(ledger).state == "open", "the breaker opens")
        wait_until(lambda: breaker(ledger).failures > THRESHOLD + 1, "it is tried again")
        seal(ledger.spool, sample_lines(1, 2), 2)
    wait_until(lambda: len(ledger.delivered()) == 3, "loaded after the release")
    wait_until(lambda: state(ledger).state == "idle", "idle again")
    assert state(ledger).problem is None
    assert (breaker(ledger).state, breaker(ledger).opened) == ("closed", 1)
    wait_until(lambda: len(ledger.rows(TOLD, "succeeded")) == 1, "that it is back is told")
    assert len(ledger.rows("FROM activities.events WHERE activity = 'cdesk.fallback_triggered'")) == 1


def test_dead_letters_that_cannot_be_kept_end_it_with_a_reason_and_lose_nothing(ledger: Ledger) -> None:
    segment = seal(ledger.spool, [*sample_lines(2), damaged(sample_event(9).line)])
    (ledger.spool.dead_letters / segment.path.name).mkdir()
    failed = ledger.run("upload", "--once", code=1)
    assert "directory" in failed.stderr
    assert state(ledger).state == "stopped"
    assert "directory" in str(state(ledger).problem)
    assert len(ledger.queued()) == 3


def test_all_that_it_writes_is_private(ledger: Ledger) -> None:
    outside = ledger.folder / "elsewhere"
    outside.mkdir()
    seal(ledger.spool, [*sample_lines(2), damaged(sample_event(9).line)])
    command = [sys.executable, "-c", WITHOUT_UMASK, "upload", "--duckdb-path", str(outside / "w.duckdb")]
    seen: dict[str, int] = {}
    with subprocess.Popen(command, env=ledger.environment) as process:

        def look() -> bool:
            assert process.poll() is None
            for path in outside.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    seen[path.name] = stat.S_IMODE(path.stat().st_mode)
            if not ledger.queued():
                seal(ledger.spool, [raw_line(time.monotonic_ns(), b"{}")], 5)
            return len(seen) > 1

        wait_until(look, "the file and its write-ahead log were seen")
        process.terminate()
        assert process.wait(10) == 0
    assert seen == {"w.duckdb": 0o600, "w.duckdb.wal": 0o600}
    written = [path for path in ledger.home.rglob("*") if path.is_file() and path.parent != ledger.spool.queue]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in written}
    assert set(modes.values()) == {0o600}, modes


def test_once_cut_short_says_that_the_queue_is_not_empty(ledger: Ledger) -> None:
    seal_many(ledger.spool, MANY)
    process = ledger.start("upload", "--once")
    wait_until(lambda: state(ledger).state == "loading", "loading")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == (1 if ledger.spool.sealed_segments() else 0)
    ledger.run("upload", "--once")
    assert ledger.rows(COUNT, "%user_asked%") == [(MANY, MANY)]


def test_a_daemon_forms_a_batch_anew_when_one_of_its_files_goes_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snowledger_uploader._run.GIVE_UP_S", 0.2)
    ledger = Ledger(tmp_path)
    seal(ledger.spool, sample_lines(3), 1)
    seal(ledger.spool, sample_lines(3, 3), 2)
    form = form_batch

    def form_and_lose_a_file(*args: Any) -> FormedBatch:
        formed = form(*args)
        monkeypatch.undo()
        monkeypatch.setattr("snowledger_uploader._run.GIVE_UP_S", 0.2)
        formed.segments[0].path.unlink()
        return formed

    monkeypatch.setattr("snowledger_uploader._drain.form_batch", form_and_lose_a_file)
    run(UploaderConfig(home=ledger.home, duckdb_path=ledger.warehouse, version="1.2.3", exit_when_unused=True))
    assert loaded_lines(ledger.warehouse) == sample_lines(3, 3)


def test_the_last_batch_is_remembered_by_the_next_uploader(ledger: Ledger) -> None:
    seal(ledger.spool, sample_lines(3))
    ledger.run("upload", "--once")
    last = state(ledger).last_batch
    assert last is not None
    ledger.run("upload", "--once")
    assert state(ledger).last_batch == last


def test_what_stays_unread_in_the_queue_is_the_status_s_problem(ledger: Ledger) -> None:
    (ledger.spool.queue / "1763698847123-0123456789ab-00000009-3.ndjson").symlink_to("nowhere")
    ledger.run("upload", "--once", code=1)
    assert "1 files in the queue cannot be read" in str(state(ledger).problem)
