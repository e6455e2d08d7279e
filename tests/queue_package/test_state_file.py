"""The file state.db: private, set aside when it is bad, made anew so that nobody sees half of it."""

import logging
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.queue_package.context_samples import at, changes, fold, insight, read, values

from snowledger_queue import ContextReader, ContextStore, Spool, StateError

BESIDE = ("-wal", "-shm")


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A user whose files everybody may use unless told otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def filled(spool: Spool) -> None:
    store = ContextStore.open(spool)
    fold(store, *(insight(number, "x" * 500, metric=f"m{number}") for number in range(100)))
    store.close()


@pytest.mark.usefixtures("open_umask")
def test_the_file_and_what_lies_beside_it_are_private(spool: Spool) -> None:
    store = ContextStore.open(spool)
    fold(store, insight(1))
    reader = ContextReader(spool)
    read(reader)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in spool.home.glob("state.db*")}
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}
    reader.close()
    store.close()


def test_commits_are_flushed(spool: Spool) -> None:
    store = ContextStore.open(spool)
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all\n" * 4096)


def sql(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


Harm = Callable[[Path, Path], object]
"""Does something to the file; the second path is elsewhere."""


def moved(then: Harm) -> Harm:
    def harm(path: Path, elsewhere: Path) -> None:
        path.rename(elsewhere)
        then(path, elsewhere)

    return harm


NOT_PLAIN = "state.db is not a plain file with one name"
HARMS: dict[str, tuple[str, Harm]] = {
    "garbage": ("file is not a database", lambda path, _: garbage(path)),
    "empty": ("it has schema version 0, this snowledger knows 3", lambda path, _: path.write_bytes(b"")),
    "short": ("it has schema version 0, this snowledger knows 3", lambda path, _: os.truncate(path, 50)),
    "truncated": ("malformed", lambda path, _: os.truncate(path, 3 * 4096)),
    "newer": ("it has schema version 4, this", lambda path, _: sql(path, "PRAGMA user_version = 4")),
    "older": ("it has schema version 1, this", lambda path, _: sql(path, "PRAGMA user_version = 1")),
    "another": ("its tables are not those of its version", lambda path, _: sql(path, "DROP TABLE recent")),
    "folder": (NOT_PLAIN, moved(lambda path, _: (path / "x").mkdir(parents=True))),
    "link": (NOT_PLAIN, moved(lambda path, elsewhere: path.symlink_to(elsewhere))),
    "dangling": (NOT_PLAIN, moved(lambda path, elsewhere: path.symlink_to(elsewhere.with_name("nowhere")))),
    "fifo": (NOT_PLAIN, moved(lambda path, _: os.mkfifo(path))),
    "second name": (NOT_PLAIN, moved(lambda path, elsewhere: os.link(elsewhere, path))),
}


@pytest.mark.parametrize("kind", HARMS)
def test_a_bad_file_is_set_aside_and_made_anew(
    kind: str, spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(spool)
    elsewhere = tmp_path / "elsewhere"
    reason, harm = HARMS[kind]
    harm(spool.state, elsewhere)
    outside = elsewhere.read_bytes() if elsewhere.exists() else None
    caplog.clear()
    store = ContextStore.open(spool)
    assert store.cursor is None
    assert store.in_place()
    [record] = [record for record in caplog.records if record.name == "snowledger_queue._state"]
    assert record.levelno == logging.ERROR
    assert record.message.startswith(f"{spool.state} was made anew (")
    assert reason in record.message
    assert record.message.endswith(
        "it is now state.db.bad); contexts are rebuilt from the warehouse, its tickets are lost"
    )
    fold(store, insight(1, "anew"))
    reader = ContextReader(spool)
    assert values(read(reader)) == [b'"anew"']
    reader.close()
    store.close()
    assert os.path.lexists(spool.home / "state.db.bad")
    if outside is not None:
        assert elsewhere.read_bytes() == outside, "it was followed"
    assert not (tmp_path / "nowhere").exists()


def test_the_last_bad_file_replaces_the_one_before(spool: Spool) -> None:
    for number in range(3):
        ContextStore.open(spool).close()
        spool.state.write_bytes(b"bad %d" % number)
    ContextStore.open(spool).close()
    assert (spool.home / "state.db.bad").read_bytes() == b"bad 2"
    assert sorted(path.name for path in spool.home.glob("state.db*")) == ["state.db", "state.db.bad"]


def test_a_file_that_can_neither_be_used_nor_set_aside_is_an_error(spool: Spool) -> None:
    aside = spool.home / "state.db.bad"
    aside.mkdir()
    (aside / "file").write_bytes(b"")
    garbage(spool.state)
    with pytest.raises(StateError, match="cannot be used") as caught:
        ContextStore.open(spool)
    assert isinstance(caught.value.__cause__, OSError)
    assert (aside / "file").exists()


def test_a_file_that_is_missing_is_made_and_said(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ContextStore.open(spool).close()
    ContextStore.open(spool).close()
    assert [record.message for record in caplog.records] == [
        f"{spool.state} was made anew (it was not there); contexts are rebuilt from the warehouse, its tickets are lost"
    ]


def test_the_log_of_a_file_that_is_gone_is_not_taken_for_the_new_ones(spool: Spool, tmp_path: Path) -> None:
    store = ContextStore.open(spool)
    fold(store, insight(1, "gone"))
    kept = tmp_path / "kept"
    kept.mkdir()
    for suffix in BESIDE:
        shutil.copy(f"{spool.state}{suffix}", kept)
    store.close()
    spool.state.unlink()
    for suffix in BESIDE:
        shutil.copy(kept / f"state.db{suffix}", spool.home)
    store = ContextStore.open(spool)
    assert store.cursor is None
    reader = ContextReader(spool)
    assert read(reader).insights == []
    reader.close()
    store.close()


@pytest.mark.parametrize("suffix", BESIDE)
def test_a_planted_log_is_not_followed(suffix: str, spool: Spool, tmp_path: Path) -> None:
    filled(spool)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    Path(f"{spool.state}{suffix}").symlink_to(elsewhere)
    reader = ContextReader(spool)
    assert read(reader).as_of is None
    store = ContextStore.open(spool)
    fold(store, insight(1, "anew"))
    assert values(read(reader)) == [b'"anew"']
    reader.close()
    store.close()
    assert elsewhere.read_bytes() == b"precious"


def test_what_a_crash_left_of_a_new_file_is_no_hindrance(spool: Spool) -> None:
    for suffix in ("", *BESIDE):
        (spool.home / f"state.db.new{suffix}").write_bytes(b"half")
    store = ContextStore.open(spool)
    fold(store, insight(1))
    store.close()
    assert sorted(path.name for path in spool.home.glob("state.db*")) == ["state.db"]


@pytest.mark.parametrize("harm", ["deleted", "replaced", "emptied"])
def test_a_store_notices_that_its_file_is_not_in_place(harm: str, spool: Spool) -> None:
    filled(spool)
    store = ContextStore.open(spool)
    assert store.in_place()
    fold(store, insight(1, "new"))
    assert store.in_place()
    match harm:
        case "deleted":
            spool.state.unlink()
        case "replaced":
            spool.state.rename(spool.home / "old")
            shutil.copy(spool.home / "old", spool.state)
        case _:
            spool.state.write_bytes(b"")
    assert not store.in_place()
    assert not store.in_place(), "it does not get used to it"
    store.close()
    again = ContextStore.open(spool)
    reader = ContextReader(spool)
    fold(again, insight(2, "again"))
    assert b'"again"' in values(read(reader))
    reader.close()
    again.close()


def test_a_file_that_lost_its_end_under_its_writer_is_made_anew_in_the_end(spool: Spool) -> None:
    filled(spool)
    store = ContextStore.open(spool)
    fold(store, insight(1, "new"))
    os.truncate(spool.state, 4096)
    assert not store.in_place()
    store.close()
    # SQLite fills the hole from its log as far as that goes; what is missing shows when it is needed.
    store = ContextStore.open(spool)
    with pytest.raises(StateError, match="malformed"):
        fold(store, insight(2))
    store.close()
    store = ContextStore.open(spool)
    fold(store, insight(3))
    store.close()


def test_closing_a_store_whose_file_was_replaced_does_no_harm_to_the_new_one(spool: Spool) -> None:
    old = ContextStore.open(spool)
    reader = ContextReader(spool)
    fold(old, insight(1, "old"))
    assert values(read(reader)) == [b'"old"']
    spool.state.unlink()
    new = ContextStore.open(spool)
    fold(new, insight(2, "new"))
    old.close()
    assert values(read(reader)) == [b'"new"']
    fold(new, insight(3, "newer", recorded_at=at(1)))
    assert values(read(reader)) == [b'"newer"']
    reader.close()
    new.close()
    store = ContextStore.open(spool)
    assert store.cursor == "1"
    store.close()


def test_damage_that_a_fold_finds_is_not_transient_and_the_next_store_begins_anew(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    filled(spool)
    store = ContextStore.open(spool)
    [page] = store._connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'atoms'").fetchone()
    with spool.state.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    store.close()
    store = ContextStore.open(spool)
    with pytest.raises(StateError, match="malformed") as caught:
        store.fold(changes([insight(1)], "2"), at())
    assert not caught.value.transient
    assert not store.in_place()
    assert "is damaged" in caplog.text
    with pytest.raises(StateError, match="closed") as caught:
        store.confirm(at(), [])
    assert not caught.value.transient
    store.close()
    store = ContextStore.open(spool)
    assert store.cursor is None
    fold(store, insight(1))
    store.close()


def test_another_writer_is_transient(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snowledger_queue._state._WRITER_WAIT_S", 0)
    store = ContextStore.open(spool)
    holder = sqlite3.connect(spool.state, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateError, match="locked") as caught:
        store.fold(changes([]), at())
    assert caught.value.transient
    holder.close()
    store.fold(changes([]), at())
    store.close()


def test_a_folder_that_cannot_take_the_file_is_an_error(spool: Spool) -> None:
    shutil.rmtree(spool.home)
    with pytest.raises(StateError, match=r"state\.db cannot be used"):
        ContextStore.open(spool)
