"""Dead letters keep what could not be loaded, byte for byte, once."""

import errno
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snowledger_queue import DeadLetterBox, Spool, dead_letter


def test_a_letter_tells_what_where_and_why(spool: Spool) -> None:
    box = DeadLetterBox(spool)
    assert box.put([dead_letter("damaged", "the checksum", "1-a-1-3.ndjson", 120, b'{"a":1}')]) == 1
    (letter,) = box.letters()
    assert letter[1:5] == ("damaged", "the checksum", "1-a-1-3.ndjson", 120)
    assert (letter.attempts, letter.original) == (1, b'{"a":1}')
    assert len(letter.letter_id) == 16


def test_the_same_letter_again_is_one_letter(spool: Spool) -> None:
    box = DeadLetterBox(spool)
    first = dead_letter("damaged", "one reason", "s.ndjson", 0, b"x")
    again = dead_letter("damaged", "another reason", "s.ndjson", 0, b"x")
    assert (box.put([first]), box.put([again]), DeadLetterBox(spool).put([again])) == (1, 0, 0)
    (kept,) = box.letters()
    assert kept == first._replace(attempts=3, reason="another reason")


def test_letters_differ_by_place_and_content(spool: Spool) -> None:
    box = DeadLetterBox(spool)
    letters = [
        dead_letter("damaged", "r", segment, offset, original)
        for segment in ("a.ndjson", "b.ndjson")
        for offset in (100, 20)
        for original in (b"x", b"y")
    ]
    assert box.put(letters) == 8
    found = [(letter.segment, letter.offset) for letter in box.letters()]
    assert found == sorted(found)
    assert {letter.letter_id for letter in box.letters()} == {letter.letter_id for letter in letters}


@given(st.binary() | st.sampled_from([b"\xff\n\r", b"\xe2\x80\xa8\x85\x0c\x1e", b"\0" * 9, "é\r\n\u2028".encode()]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_bytes_come_back_as_they_were(spool: Spool, original: bytes) -> None:
    box = DeadLetterBox(spool)
    letter = dead_letter("rejected", "why\nnot\u2028", "s.ndjson", 5, original)
    box.put([letter])
    assert original in [kept.original for kept in box.letters()]
    box.remove([letter])
    assert list(box.letters()) == []


def test_a_removed_letter_leaves_the_others(spool: Spool) -> None:
    box = DeadLetterBox(spool)
    one, other = (dead_letter("rejected", "r", "s.ndjson", offset, b"x") for offset in (0, 9))
    box.put([one, other])
    box.remove([one])
    assert list(box.letters()) == [other]
    box.remove([one])
    box.remove([other])
    box.remove([other])
    assert list(box.letters()) == []
    assert list(spool.dead_letters.iterdir()) == []


def test_letters_that_cannot_be_kept_are_an_error(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    box = DeadLetterBox(spool)
    old = dead_letter("rejected", "r", "s.ndjson", 0, b"old")
    box.put([old])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("snowledger_queue._platform.sync_data", full)
    with pytest.raises(OSError, match="No space left"):
        box.put([dead_letter("rejected", "r", "s.ndjson", 9, b"new")])
    monkeypatch.undo()
    assert list(box.letters()) == [old]


def test_a_foreign_file_in_the_folder_is_no_letter(spool: Spool) -> None:
    Path(spool.dead_letters / "README").write_text("notes", encoding="utf-8")
    assert list(DeadLetterBox(spool).letters()) == []


def test_a_damaged_file_of_letters_is_kept_aside_and_blocks_nothing(spool: Spool) -> None:
    box = DeadLetterBox(spool)
    box.put([dead_letter("damaged", "r", "s.ndjson", 0, b"old")])
    (path,) = spool.dead_letters.iterdir()
    content = path.read_bytes()[:-20]
    path.write_bytes(content)
    assert box.put([dead_letter("damaged", "r", "s.ndjson", 9, b"new")]) == 1
    assert [letter.original for letter in box.letters()] == [b"new"]
    (aside,) = spool.dead_letters.glob("*.damaged")
    assert aside.read_bytes() == content
