"""Whole files among the dead letters, and letters that are deleted while others come."""

import sys
import threading
import time
from pathlib import Path

import pytest

from snowledger_queue import DeadLetter, DeadLetterBox, Spool, _dead_letters, dead_letter


def foreign(spool: Spool, content: bytes) -> Path:
    path = spool.queue / "export.txt"
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_files_of_one_name_are_kept_each_and_the_same_one_again_is_one_letter(spool: Spool) -> None:
    box = DeadLetterBox(spool)
    contents = [b"first\n", b"another", b"first\n"]
    for content in contents:
        box.set_aside(foreign(spool, content), "foreign", "no segment")
    letters = sorted(box.letters(), key=lambda letter: letter.attempts)
    assert [(box.file(letter).read_bytes(), letter.attempts) for letter in letters] == [
        (b"another", 1),
        (b"first\n", 2),
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_a_folder_that_others_may_enter_takes_nothing_and_that_is_an_error_of_the_system(spool: Spool) -> None:
    box = DeadLetterBox(spool)
    (spool.dead_letters / "files").mkdir(mode=0o755)
    large = dead_letter("rejected", "r", "s.ndjson", 0, bytes(_dead_letters.MAX_LINE_BYTES + 1))
    with pytest.raises(OSError, match="chmod 700"):
        box.put([large])
    with pytest.raises(OSError, match="chmod 700"):
        box.set_aside(foreign(spool, b"x"), "foreign", "no segment")
    assert (spool.queue / "export.txt").exists()


def test_others_have_their_turn_while_many_letters_are_deleted(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    box, other = DeadLetterBox(spool), DeadLetterBox(spool)
    monkeypatch.setattr(_dead_letters, "HOLD_S", 0.1)
    forget = DeadLetterBox._forget
    begun = threading.Event()

    def slow(self: DeadLetterBox, path: Path, gone: dict[str, DeadLetter]) -> None:
        begun.set()
        time.sleep(0.06)
        forget(self, path, gone)

    box.put(dead_letter("rejected", "r", f"{number}.ndjson", 0, b"x") for number in range(20))
    monkeypatch.setattr(DeadLetterBox, "_forget", slow)
    deleting = threading.Thread(target=box.remove, args=[list(box.letters())])
    deleting.start()
    assert begun.wait(10)
    other.put([dead_letter("rejected", "r", "new.ndjson", 0, b"y")])
    assert deleting.is_alive()
    deleting.join()
    assert [letter.original for letter in box.letters()] == [b"y"]


def test_many_letters_are_deleted_with_one_flush(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    box = DeadLetterBox(spool)
    box.put(dead_letter("rejected", "r", f"{number}.ndjson", 0, b"x") for number in range(20))
    flushed: list[Path] = []
    monkeypatch.setattr("snowledger_queue._platform.sync_folder", flushed.append)
    box.remove(list(box.letters()))
    assert flushed == [spool.dead_letters]
    assert list(box.letters()) == []
