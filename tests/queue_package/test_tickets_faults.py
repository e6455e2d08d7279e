"""Tickets while state.db is missing, bad, locked or replaced: an error that says what to do, and nothing half done."""

import logging
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from tests.queue_package.context_samples import at, changes, fold, insight
from tests.queue_package.ticket_samples import ask, hash_of, result

from snowledger_queue import ContextStore, RunnerTickets, Spool, StateError, Tickets, open_spool


@pytest.fixture
def tickets(spool: Spool) -> Iterator[Tickets]:
    made = Tickets(spool)
    yield made
    made.close()


@pytest.fixture
def runner(spool: Spool) -> Iterator[RunnerTickets]:
    made = RunnerTickets(spool)
    yield made
    made.close()


CALLS: dict[str, Callable[[Tickets], object]] = {
    "submit": ask,
    "get": lambda tickets: tickets.get("0" * 32, "acme"),
    "cancel": lambda tickets: tickets.cancel("0" * 32, "acme", at()),
    "list": lambda tickets: tickets.list(None, 1),
    "of_anybody": lambda tickets: tickets.of_anybody("0" * 32),
    "finished": lambda tickets: tickets.finished("acme", hash_of(0)),
    "prune": lambda tickets: tickets.prune(at(), {}, 0),
}


@pytest.mark.parametrize("call", CALLS)
def test_without_a_file_every_call_says_what_to_do(call: str, tickets: Tickets, spool: Spool) -> None:
    with pytest.raises(StateError, match=r"no uploader has made it yet; start one with `snowledger upload`") as caught:
        CALLS[call](tickets)
    assert caught.value.transient
    assert str(spool.state) in str(caught.value)
    assert list(spool.home.glob("state.db*")) == [], "a server makes nothing"


def test_the_file_is_used_as_soon_as_an_uploader_has_made_it(
    tickets: Tickets, runner: RunnerTickets, spool: Spool
) -> None:
    before = tickets.mark()
    assert tickets.mark() == before
    runner.recover(at())
    assert tickets.mark() != before
    asked, _ = ask(tickets)
    used = tickets.mark()
    for path in spool.home.glob("state.db*"):
        path.replace(spool.home / f"kept{path.suffix}")
    assert tickets.mark() not in {before, used}
    for path in spool.home.glob("kept*"):
        path.replace(spool.home / f"state{path.suffix}")
    assert tickets.mark() not in {before, used}, "it might be another"
    claimed = runner.claim(at())
    assert claimed is not None
    assert claimed.ticket_id == asked.ticket_id
    for path in spool.home.glob("state.db*"):
        path.unlink()
    gone = tickets.mark()
    assert gone == tickets.mark()
    with pytest.raises(StateError, match="no uploader"):
        ask(tickets)
    assert runner.claim(at()) is None, "a new file is empty"
    assert tickets.get(asked.ticket_id, "acme") is None
    assert not ask(tickets)[1]
    assert runner.claim(at()) is not None


@pytest.mark.parametrize("maker", ["tickets", "contexts"])
def test_whoever_makes_the_file_the_other_uses_it(maker: str, runner: RunnerTickets, spool: Spool) -> None:
    if maker == "tickets":
        runner.recover(at())
    store = ContextStore.open(spool)
    fold(store, insight(1))
    ask(runner)
    assert runner.claim(at()) is not None
    fold(store, insight(2))
    assert store.in_place()
    store.fold(changes([insight(3)], "9")._replace(reset=True), at())
    assert len(runner.list(None, 10)) == 1, "contexts begin anew without the tickets"
    store.close()


def test_a_file_that_two_threads_miss_is_made_once(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(10):
        for path in spool.home.glob("state.db*"):
            path.unlink()
        caplog.clear()
        runners = [RunnerTickets(spool) for _ in range(4)]
        threads = [Thread(target=runner.recover, args=[at()]) for runner in runners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, runner in enumerate(runners):
            ask(runner, number)
        assert len(runners[0].list(None, 10)) == 4
        assert [record.levelno for record in caplog.records] == [logging.INFO]
        for runner in runners:
            runner.close()


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all\n" * 4096)


def page(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        [number] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'tickets'").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((number - 1) * 4096)
        file.write(b"\xff" * 4096)


def text(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE tickets SET customers = '[1'")
    connection.close()


def other_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()


@pytest.mark.parametrize("harm", [garbage, page, text, other_version])
def test_a_bad_file_is_said_and_the_uploader_makes_it_anew(
    harm: Callable[[Path], None], spool: Spool, tickets: Tickets, caplog: pytest.LogCaptureFixture
) -> None:
    first = RunnerTickets(spool)
    first.recover(at())
    asked, _ = ask(first)
    first.close()
    harm(spool.state)
    with pytest.raises(StateError, match=r"an uploader makes it anew when it starts \(`snowledger upload`\)") as caught:
        tickets.get(asked.ticket_id, "acme")
    assert caught.value.transient
    assert spool.take_refresh_request()
    assert spool.state.exists() == (harm is other_version), "what is damaged is set aside"
    if harm is not other_version:
        assert "it is now state.db.bad, its tickets are lost" in caplog.text
    again = RunnerTickets(spool)
    again.recover(at())
    assert again.list(None, 10) == []
    assert not ask(tickets)[1]
    again.close()


def test_damage_that_the_runner_meets_is_mended_by_its_next_call(
    spool: Spool, runner: RunnerTickets, caplog: pytest.LogCaptureFixture
) -> None:
    runner.recover(at())
    store = ContextStore.open(spool)
    fold(store, insight(1))
    ask(runner)
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    runner.close()
    page(spool.state)
    fresh = RunnerTickets(spool)
    with pytest.raises(StateError, match="malformed"):
        fresh.claim(at())
    assert fresh.claim(at()) is None
    assert "it is now state.db.bad, its tickets are lost" in caplog.text
    assert not store.in_place()
    store.close()
    fresh.close()


def test_a_locked_file_is_a_transient_error_in_time(tickets: Tickets, runner: RunnerTickets, spool: Spool) -> None:
    runner.recover(at())
    asked, _ = ask(tickets)
    holder = sqlite3.connect(spool.state, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(StateError, match="locked") as caught:
            ask(tickets, 1)
        assert caught.value.transient
        assert 0.9 < time.monotonic() - began < 5
    began = time.monotonic()
    assert tickets.get(asked.ticket_id, "acme") == asked, "who reads does not wait"
    assert tickets.mark() == tickets.mark()
    assert time.monotonic() - began < 0.9
    holder.close()
    assert not ask(tickets, 1)[1]
    assert len(tickets.list(None, 10)) == 2


def test_nobody_who_reads_waits_for_one_who_submits(tickets: Tickets, runner: RunnerTickets, spool: Spool) -> None:
    runner.recover(at())
    asked, _ = ask(tickets)
    mark = tickets.mark()
    holder = sqlite3.connect(spool.state, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    failed: list[StateError] = []

    def submit() -> None:
        try:
            ask(tickets, 1)
        except StateError as error:
            failed.append(error)

    threads = [Thread(target=submit) for _ in range(3)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        asking = time.monotonic()
        assert tickets.get(asked.ticket_id, "acme") == asked
        assert tickets.mark() == mark
        assert time.monotonic() - asking < 0.9
    assert time.monotonic() - began < 10
    assert len(failed) == 3
    assert all(error.transient for error in failed)
    holder.close()


def test_a_ticket_that_went_into_a_file_that_is_gone_is_not_acknowledged(
    tickets: Tickets, runner: RunnerTickets, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.recover(at())
    ask(tickets, 1)

    def replace(_: int) -> str:
        shutil.copy(spool.state, spool.home / "another")
        (spool.home / "another").replace(spool.state)
        return "a" * 32

    monkeypatch.setattr("secrets.token_hex", replace)
    with pytest.raises(StateError, match="it was replaced meanwhile") as caught:
        ask(tickets, 2)
    assert caught.value.transient


def test_a_closed_one_says_so(tickets: Tickets, runner: RunnerTickets) -> None:
    runner.recover(at())
    ask(tickets)
    tickets.close()
    tickets.close()
    with pytest.raises(StateError, match="closed") as caught:
        ask(tickets)
    assert not caught.value.transient


def test_an_error_in_a_transaction_leaves_nothing_behind(
    tickets: Tickets, runner: RunnerTickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.recover(at())

    def fail(_: object) -> None:
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patched:
        patched.setattr("snowledger_queue._tickets.to_ticket", fail)
        with pytest.raises(RuntimeError):
            ask(tickets)
    assert tickets.list(None, 10) == []
    assert not ask(tickets)[1]


def test_the_mark_changes_with_every_commit_and_else_does_not(tickets: Tickets, runner: RunnerTickets) -> None:
    runner.recover(at())
    seen = [tickets.mark()]

    def changed() -> bool:
        mark = tickets.mark()
        new = mark not in seen
        seen.append(mark)
        return new and tickets.mark() == mark

    asked, _ = ask(tickets)
    assert changed()
    assert runner.claim(at()) is not None
    assert changed()
    runner.progress(asked.ticket_id, 3)
    assert changed()
    runner.progress(asked.ticket_id, 3)
    assert not changed(), "nothing is new"
    assert ask(tickets)[1]
    assert runner.claim(at()) is None
    assert runner.cancel_requests() == set()
    tickets.get(asked.ticket_id, "acme")
    assert tickets.cancel(asked.ticket_id, "other", at()) is None
    assert not changed()
    runner.succeed(asked.ticket_id, result(), at())
    assert changed()


def test_the_files_are_private(spool: Spool) -> None:
    before = os.umask(0)
    try:
        runner = RunnerTickets(spool)
        runner.recover(at())
        tickets = Tickets(spool)
        ask(tickets)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in spool.home.glob("state.db*")}
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}
    assert stat.S_IMODE(spool.artifacts.stat().st_mode) == 0o700
    tickets.close()
    runner.close()


def test_commits_are_flushed(tickets: Tickets, runner: RunnerTickets) -> None:
    runner.recover(at())
    ask(tickets)
    for link in (tickets._writes, runner._writes):
        with link.reading() as run:
            assert run.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_spool_of_before_gets_its_folder(spool: Spool) -> None:
    spool.artifacts.rmdir()
    assert open_spool(spool.home).artifacts.is_dir()
