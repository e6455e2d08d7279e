"""Dead letters are counted without reading them again and again."""

import os
from pathlib import Path

import pytest

from snowledger_queue import DeadLetterBox, DeadLetterCounter, Spool, dead_letter
from snowledger_queue import _dead_letter_counts as module


@pytest.mark.parametrize(
    "damage", [(b"2026-", b"2O26-"), (b"+00:00", b""), (b"first_seen", b"last_seen"), (b"{", b"["), (b"}", b"")]
)
def test_a_damaged_file_is_named_and_others_are_counted(damage: tuple[bytes, bytes], spool: Spool) -> None:
    box = DeadLetterBox(spool)
    when = "2026-10-01T00:00:00+00:00"
    box.put([dead_letter("damaged", "why", name, 0, b"x")._replace(first_seen=when) for name in "ab"])
    file = spool.dead_letters / "b.ndjson"
    file.write_bytes(file.read_bytes().replace(*damage))
    found = DeadLetterCounter(spool).counts()
    assert (found.total, found.oldest, found.unread) == (1, when, (str(file),))


def test_only_files_that_changed_are_read_again(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    count = module._count

    def counted(path: str, mark: tuple[int, int, int]) -> module._Counted:
        read.append(Path(path).name)
        return count(path, mark)

    monkeypatch.setattr(module, "_count", counted)
    box, counter = DeadLetterBox(spool), DeadLetterCounter(spool)
    assert (counter.counts().total, counter.counts().oldest) == (0, None)
    first = dead_letter("damaged", "why", "a", 0, b"x")._replace(first_seen="2026-10-01T00:00:00.000000Z")
    box.put([first, dead_letter("rejected", "why", "a", 9, b"y"), dead_letter("rejected", "why", "b", 0, b"z")])
    found = counter.counts()
    assert (found.total, found.classes, found.oldest) == (3, {"damaged": 1, "rejected": 2}, first.first_seen)
    assert counter.counts() == found
    assert sorted(read) == ["a.ndjson", "b.ndjson"]
    box.remove([first])
    assert counter.counts().classes == {"rejected": 2}
    assert sorted(read) == ["a.ndjson", "a.ndjson", "b.ndjson"]
    os.utime(spool.dead_letters, (1_700_000_000, 1_700_000_000))
    counter.counts()
    monkeypatch.setattr(os, "scandir", lambda _: pytest.fail("nothing has changed"))
    assert counter.counts().total == 2
