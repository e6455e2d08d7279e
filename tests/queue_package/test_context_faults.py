"""Reading contexts while state.db comes, goes, changes and is bad: the queue alone answers, and the mark tells."""

import logging
import os
import shutil
import sqlite3
from pathlib import Path
from threading import Thread

import pytest
from tests.queue_package.context_samples import (
    Both,
    at,
    event,
    fold,
    id_of,
    insight,
    queue,
    read,
    values,
)

from snowledger_queue import (
    ContextReader,
    ContextStore,
    Spool,
)


def test_the_mark_changes_with_every_commit_and_else_does_not(both: Both) -> None:
    seen = [both.reader.mark()]
    for number in range(3):
        fold(both.store, insight(number, number, metric=str(number)))
        assert both.reader.mark() != seen[-1]
        seen.append(both.reader.mark())
        read(both.reader)
        assert both.reader.mark() == seen[-1], "a read changes nothing"
    both.store.confirm(at(), [])
    assert both.reader.mark() not in seen


def test_the_mark_changes_when_the_file_comes_goes_and_is_another(spool: Spool) -> None:
    reader = ContextReader(spool)
    seen = [reader.mark()]
    assert reader.mark() == seen[0]
    for _ in range(2):
        store = ContextStore.open(spool)
        assert reader.mark() not in seen
        seen.append(reader.mark())
        read(reader)
        store.close()
        spool.state.unlink()
        assert reader.mark() not in seen[1:]
        seen.append(reader.mark())
    reader.close()


def test_marks_are_taken_while_another_thread_reads(both: Both) -> None:
    for number in range(50):
        fold(both.store, insight(number, number, metric=str(number)))
    results: list[int] = []

    def read_on() -> None:
        results.extend(read(both.reader).insight_count for _ in range(100))

    threads = [Thread(target=read_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    marks = {both.reader.mark() for _ in range(2_000)}
    for thread in threads:
        thread.join()
    assert results == [50] * 300
    assert len(marks) == 1


def from_queue(reader: ContextReader) -> None:
    """It answers, from the queue alone."""
    context = read(reader, queue(insight(1, "queued"), event(2)))
    assert (context.as_of, values(context), context.insight_count) == (None, [b'"queued"'], 1)
    assert [count.last_24_h for count in context.counts] == [1, 1]
    assert [found.event_id for found in context.recent] == [id_of(2)]


def test_without_a_file_the_queue_alone_answers_until_there_is_one(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reader = ContextReader(spool)
    for _ in range(3):
        from_queue(reader)
        reader.mark()
    [record] = caplog.records
    assert record.message.startswith(f"{spool.state} cannot be read: it is not there; contexts are answered from")
    assert not spool.state.exists(), "a server makes nothing"
    store = ContextStore.open(spool)
    fold(store, insight(3, "folded", metric="other"))
    store.confirm(at(), [])
    context = read(reader, queue(insight(1, "queued")))
    assert (context.as_of, context.insight_count) == (at(), 2)
    store.close()
    reader.close()


def damage_header(path: Path) -> None:
    path.write_bytes(b"no database at all\n" * 4096)


def damage_page(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


def filled(spool: Spool) -> None:
    store = ContextStore.open(spool)
    fold(store, *(insight(number, "x" * 500, metric=f"m{number}") for number in range(100)))
    store.close()


def root_page(path: Path, table: str) -> int:
    connection = sqlite3.connect(path)
    [page] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    connection.close()
    return int(page)


@pytest.mark.parametrize("harm", ["garbage", "page", "truncated", "recent", "text"])
def test_a_damaged_file_is_said_once_asked_for_and_set_aside(
    harm: str, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    filled(spool)
    match harm:
        case "garbage":
            damage_header(spool.state)
        case "page":
            damage_page(spool.state, root_page(spool.state, "atoms"))
        case "truncated":
            os.truncate(spool.state, 3 * 4096)
        case "recent" | "text":
            change = {
                "recent": "INSERT INTO recent VALUES ('acme', '[1')",
                "text": "UPDATE atoms SET valid_to = CAST(x'ff' AS TEXT)",
            }[harm]
            with sqlite3.connect(spool.state) as connection:
                connection.execute(change)
            connection.close()
    reader = ContextReader(spool)
    before = reader.mark()
    for _ in range(3):
        from_queue(reader)
        reader.mark()
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.message.startswith(f"{spool.state} cannot be read: ")
    assert record.message.endswith("from the queue alone until the uploader has made it anew")
    assert spool.take_refresh_request()
    if harm in {"page", "recent", "text"}:
        assert reader.mark() != before, "it was usable"
    # The uploader finds none, whatever of it it had in use.
    store = ContextStore.open(spool)
    assert store.cursor is None
    fold(store, insight(1, "anew"))
    assert values(read(reader)) == [b'"anew"']
    store.close()
    reader.close()


def test_a_store_whose_file_a_reader_found_damaged_is_not_in_place(both: Both, spool: Spool) -> None:
    fold(both.store, *(insight(number, "x" * 500, metric=f"m{number}") for number in range(100)))
    both.store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage_page(spool.state, root_page(spool.state, "atoms"))
    fresh = ContextReader(spool)
    assert both.store.in_place()
    assert read(fresh).insights == []
    assert not both.store.in_place()
    fresh.close()


def test_a_file_of_another_version_is_left_to_the_uploader(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    filled(spool)
    with sqlite3.connect(spool.state) as connection:
        connection.execute("PRAGMA user_version = 4")
    connection.close()
    content = spool.state.read_bytes()
    reader = ContextReader(spool)
    from_queue(reader)
    assert reader.mark() == reader.mark()
    assert "it has schema version 4, this snowledger knows 3" in caplog.text
    assert spool.state.read_bytes() == content
    # Brought back, it is used again.
    with sqlite3.connect(spool.state) as connection:
        connection.execute("PRAGMA user_version = 3")
    connection.close()
    assert read(reader).insight_count == 100
    reader.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that SQLite opens."""
    seen: list[str] = []
    connect = sqlite3.connect

    def note(database: str, *arguments: object, **options: object) -> sqlite3.Connection:
        seen.extend([database] if database != ":memory:" else [])
        return connect(database, *arguments, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sqlite3, "connect", note)
    return seen


def test_a_bad_file_is_not_opened_for_every_call(spool: Spool, opened: list[str]) -> None:
    filled(spool)
    with sqlite3.connect(spool.state) as connection:
        connection.execute("PRAGMA user_version = 4")
    connection.close()
    opened.clear()
    reader = ContextReader(spool)
    for _ in range(5):
        reader.mark()
        read(reader)
    assert len(opened) == 2, "once to read and once for the marks"
    reader.close()


def test_a_file_that_is_replaced_while_it_is_opened_is_not_used(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(spool)
    shutil.copy(spool.state, spool.home / "another")
    connect = sqlite3.connect

    def replace_then_connect(database: str, *arguments: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(database, *arguments, **options)  # type: ignore[call-overload]
        if database != ":memory:" and (spool.home / "another").exists():
            (spool.home / "another").replace(spool.state)
        return connection

    monkeypatch.setattr(sqlite3, "connect", replace_then_connect)
    reader = ContextReader(spool)
    assert reader._reads._connection is None
    assert read(reader).insight_count == 100
    reader.close()


@pytest.mark.parametrize("kind", ["folder", "link", "fifo", "second name"])
def test_what_is_not_a_plain_file_is_not_followed(kind: str, spool: Spool, tmp_path: Path) -> None:
    filled(spool)
    elsewhere = tmp_path / "elsewhere"
    shutil.move(spool.state, elsewhere)
    match kind:
        case "folder":
            spool.state.mkdir()
        case "link":
            spool.state.symlink_to(elsewhere)
        case "fifo":
            os.mkfifo(spool.state)
        case _:
            os.link(elsewhere, spool.state)
    reader = ContextReader(spool)
    from_queue(reader)
    assert reader.mark() == reader.mark()
    reader.close()


def test_a_file_that_cannot_be_opened_now_is_tried_again(
    both: Both, spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fold(both.store, insight(1, "folded", metric="other"))
    connect = sqlite3.connect

    def refuse(database: str, *arguments: object, **options: object) -> sqlite3.Connection:
        if database != ":memory:":
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        return connect(database, *arguments, **options)  # type: ignore[call-overload, no-any-return]

    reader = ContextReader(spool)
    usable = reader.mark()
    spool.state.rename(spool.home / "kept")
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", refuse)
        shutil.copy(spool.home / "kept", spool.state)
        from_queue(reader)
        marks = {reader.mark(), reader.mark(), reader.mark()}
        assert len(marks) == 3, "what was read now must not be kept"
        assert usable not in marks
    assert len([record for record in caplog.records if "unable to open" in record.message]) == 1
    reader.close()


def test_a_locked_file_is_answered_without_and_never_taken_for_the_answer_later(
    both: Both, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold(both.store, insight(1, "folded"))
    before = both.reader.mark()
    both.store.close()
    both.reader.close()
    # Nobody but a holder of the whole file can lock a reader out.
    holder = sqlite3.connect(spool.state, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    holder.execute("UPDATE meta SET value = value")
    holder.execute("COMMIT")
    monkeypatch.setattr("snowledger_queue._context_reader._READ_WAIT_S", 0)
    reader = ContextReader(spool)
    assert read(reader).insights == []
    during = {reader.mark() for _ in range(3)}
    assert len(during) == 3
    holder.close()
    assert values(read(reader)) == [b'"folded"']
    assert reader.mark() == reader.mark()
    assert not {before, reader.mark()} & during
    reader.close()
