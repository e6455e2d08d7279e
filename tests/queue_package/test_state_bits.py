"""A state.db in which bits were flipped, where SQLite notices and where it does not."""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from random import Random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.queue_package.context_samples import at, event, fold, insight, queue, read, values
from tests.queue_package.ticket_samples import ask
from tests.thorough import examples

from snowledger_queue import (
    ContextReader,
    ContextStore,
    CustomerContext,
    RunnerTickets,
    Spool,
    StateError,
    Tickets,
    open_spool,
)

SETTINGS = settings(max_examples=examples(30))


def fill(spool: Spool) -> None:
    runner = RunnerTickets(spool)
    runner.recover(at())
    runner.close()
    tickets = Tickets(spool)
    for number in range(3):
        ask(tickets, number)
    tickets.close()
    store = ContextStore.open(spool)
    insights = (
        insight(number, {"text": "x" * 80, "n": number}, metric=f"m{number}", valid_to=at(number + 1))
        for number in range(40)
    )
    fold(store, *insights, *(event(100 + number, text="y" * 90) for number in range(12)))
    store.confirm(at(), ["stem"])
    store.close()


@pytest.fixture(scope="module")
def good() -> Iterator[bytes]:
    """A file that has something of everything."""
    with tempfile.TemporaryDirectory() as folder:
        spool = open_spool(Path(folder) / "spool")
        fill(spool)
        yield spool.state.read_bytes()


def change(spool: Spool, statement: str) -> None:
    connection = sqlite3.connect(spool.state, isolation_level=None)
    connection.execute(statement)
    connection.close()


def flip(spool: Spool, place: int, bit: int) -> None:
    content = bytearray(spool.state.read_bytes())
    content[place] ^= 1 << bit
    spool.state.write_bytes(content)


def break_the_schema(spool: Spool) -> None:
    """SQLite's message names what it does not understand, with the byte that is no UTF-8."""
    content = spool.state.read_bytes()
    spool.state.write_bytes(content.replace(b"CREATE TABLE meta", b"CREATE \xd4ABLE meta"))


CHANGES = {
    "value, not UTF-8": "UPDATE atoms SET value = x'22ff22'",
    "value, not JSON": "UPDATE atoms SET value = CAST('{\"a\"' AS BLOB)",
    "value, two lines": "UPDATE atoms SET value = x'5b0a5d'",
    "value, text": "UPDATE atoms SET value = '1'",
    "subject": "UPDATE atoms SET subject = x'61'",
    "recorded_at": "UPDATE atoms SET recorded_at = x'61' WHERE metric = 'm1'",
    "verified": "UPDATE atoms SET verified = 'yes' WHERE metric = 'm1'",
    "query_hash": "UPDATE atoms SET query_hash = x'61'",
    "valid_from": "UPDATE atoms SET valid_from = x'61'",
    "valid_to": "UPDATE atoms SET valid_to = x'61'",
    "valid_to, no time": "UPDATE atoms SET valid_to = replace(valid_to, ':00.', ':0/.')",
    "as_of, no time": "UPDATE meta SET value = replace(value, '-', char(13)) WHERE name = 'as_of'",
    "as_of": "UPDATE meta SET value = x'61' WHERE name = 'as_of'",
    "stem": "UPDATE drained SET stem = x'61'",
    "activity": "UPDATE activity_hours SET activity = x'61' WHERE activity = 'cdesk.user_asked'",
    "count": "UPDATE activity_hours SET events = 1.5",
    "recent events": "UPDATE recent SET events = x'5b5b312c322c332c342c355d5d'",
    "features": "UPDATE recent SET events = CAST(replace(events, 'text', 'te\\\"') AS BLOB)",
    "features, no object": """UPDATE recent SET events = CAST('[["a","b","c",null,"1"]]' AS BLOB)""",
    "ticket": "UPDATE tickets SET template = x'61'",
    "rows of a ticket": "UPDATE tickets SET row_count = 'x'",
    "customers of a ticket": "UPDATE tickets SET customers = '[1]'",
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_sqlite_does_not_notice_is_damage_all_the_same(kind: str, spool: Spool, good: bytes) -> None:
    spool.state.write_bytes(good)
    change(spool, CHANGES[kind])
    reader = ContextReader(spool)
    context = read(reader, queue(insight(1, "queued")))
    assert (context.as_of, values(context)) == (None, [b'"queued"'])
    assert spool.take_refresh_request()
    assert not spool.state.exists(), "it was set aside"
    reader.close()


TICKET_CHANGES = {
    "template": "UPDATE tickets SET template = x'61'",
    "attempts": "UPDATE tickets SET attempts = 'x'",
    "params": "UPDATE tickets SET params = '{'",
    "columns": "UPDATE tickets SET columns = '['",
    "sample": "UPDATE tickets SET sample = '[1'",
    "customers": "UPDATE tickets SET customers = '[1]'",
    "error": "UPDATE tickets SET error = CAST(x'ff' AS TEXT)",
}


@pytest.mark.parametrize("kind", TICKET_CHANGES)
def test_a_ticket_that_is_not_what_was_written_is_damage(kind: str, spool: Spool, good: bytes) -> None:
    spool.state.write_bytes(good)
    change(spool, TICKET_CHANGES[kind])
    tickets = Tickets(spool)
    with pytest.raises(StateError, match="an uploader makes it anew"):
        tickets.list(None, 10)
    assert not spool.state.exists(), "it was set aside"
    tickets.close()


HARMS: dict[str, Callable[[Spool], None]] = {
    "a message that cannot be decoded": break_the_schema,
    "unsupported file format": lambda spool: flip(spool, 47, 7),
    "read-only by its header": lambda spool: flip(spool, 18, 0),
}


@pytest.mark.parametrize("kind", HARMS)
def test_a_file_that_cannot_be_used_as_it_is_is_made_anew(kind: str, spool: Spool, good: bytes) -> None:
    spool.state.write_bytes(good)
    HARMS[kind](spool)
    assert folds_within_two_tries(spool) is None


@pytest.mark.parametrize("kind", HARMS)
def test_a_file_that_cannot_be_used_as_it_is_takes_no_ticket(kind: str, spool: Spool, good: bytes) -> None:
    spool.state.write_bytes(good)
    HARMS[kind](spool)
    tickets = Tickets(spool)
    tickets.mark()
    with pytest.raises(StateError):
        ask(tickets, 5)
    assert not spool.state.exists(), "it was set aside"
    tickets.close()


@pytest.mark.parametrize("kind", HARMS)
def test_a_file_that_cannot_be_used_as_it_is_fails_no_reader(kind: str, spool: Spool, good: bytes) -> None:
    spool.state.write_bytes(good)
    HARMS[kind](spool)
    reader = ContextReader(spool)
    reader.mark()
    check(read(reader))
    reader.close()


def test_a_message_that_cannot_be_decoded_is_no_error_of_a_reader_that_has_the_file_open(
    spool: Spool, good: bytes
) -> None:
    spool.state.write_bytes(good)
    reader = ContextReader(spool)
    assert read(reader).insights
    # SQLite reads the schema anew when the file's header tells that it has changed.
    change(spool, "PRAGMA schema_version = 999")
    connection = sqlite3.connect(spool.state, isolation_level=None)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with spool.state.open("r+b") as file:
        content = spool.state.read_bytes()
        file.seek(content.index(b"CREATE TABLE meta") + len("CREATE "))
        file.write(b"\xd4")
    check(read(reader))
    reader.mark()
    reader.close()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a file that may not be written")
def test_a_file_that_may_not_be_written_is_not_damaged(spool: Spool, good: bytes) -> None:
    spool.state.write_bytes(good)
    spool.state.chmod(0o400)
    store = ContextStore.open(spool)
    with pytest.raises(StateError, match="readonly") as caught:
        fold(store, insight(1))
    assert caught.value.transient
    assert spool.state.exists()
    store.close()


@SETTINGS
@given(seed=st.integers(0, 2**32), flips=st.integers(1, 3), read_first=st.booleans())
def test_no_flipped_bits_fail_a_reader_or_keep_the_file_from_being_made_anew(
    good: bytes, seed: int, flips: int, *, read_first: bool
) -> None:
    content = bytearray(good)
    random = Random(seed)
    for _ in range(flips):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    with tempfile.TemporaryDirectory() as folder:
        spool = open_spool(Path(folder) / "spool")
        spool.state.write_bytes(content)
        if read_first:
            reader = ContextReader(spool)
            reader.mark()
            check(read(reader))
            check(read(reader, queue(insight(1, "queued"), event(2))))
            reader.close()
        assert folds_within_two_tries(spool) is None


def folds_within_two_tries(spool: Spool) -> StateError | None:
    """What an uploader does; why it failed, if it did."""
    failed: StateError | None = None
    for _ in range(2):
        try:
            store = ContextStore.open(spool)
            try:
                assert store.cursor is None or isinstance(store.cursor, str)
                fold(store, insight(7, "new"), event(8))
            finally:
                store.close()
        except StateError as error:
            failed = error
        else:
            return None
    return failed


def check(context: CustomerContext) -> None:
    """It is what a server can encode."""
    texts = [context.valid_until, *([] if context.as_of is None else [context.as_of])]
    assert all(datetime.fromisoformat(text).tzinfo for text in texts)
    for atom in context.insights:
        assert isinstance(atom.value, bytes)
        check_json(atom.value)
        assert isinstance(atom.verified, bool)
        texts += [*atom[:4], atom.query_hash, *(moment for moment in atom[7:] if moment is not None)]
    for count in context.counts:
        assert (type(count.last_24_h), type(count.last_7_d)) == (int, int)
        texts.append(count.activity)
    for found in context.recent:
        assert found.link is None or isinstance(found.link, str)
        texts += found[:3]
        if found.features is not None:
            assert isinstance(check_json(found.features), dict)
    for ticket in context.tickets:
        assert ticket.row_count is None or type(ticket.row_count) is int
        texts += ticket[:5]
    assert all(type(text) is str for text in texts)
    orjson.dumps(texts)


def check_json(text: bytes) -> object:
    assert b"\n" not in text
    return orjson.loads(text)
