"""``snowledger dead-letter``: whole files go back into the queue, and what is purged is gone."""

from tests.cli.cli_process import Cli
from tests.cli.test_dead_letter_command import DAMAGED, OTHER, REJECTED, left, put

from snowledger_queue import DeadLetter, DeadLetterBox, dead_letter

OLD = dead_letter("rejected", "long ago", "s", 0, b"x")._replace(first_seen="2026-10-01T00:00:00.000000Z")


def set_aside(cli: Cli) -> DeadLetter:
    """A whole segment with one event."""
    cli.log(1)
    (segment,) = cli.spool.sealed_segments()
    return DeadLetterBox(cli.spool).set_aside(segment.path, "unreadable", "the disk does not give it")


def test_a_file_is_shown_by_its_path_and_goes_back_as_it_was(cli: Cli) -> None:
    letter = set_aside(cli)
    path = DeadLetterBox(cli.spool).file(letter)
    content = path.read_bytes()
    assert cli.queued() == []
    assert f"file             {path}\n" in cli.run("dead-letter", "show", letter.letter_id).stdout
    told = cli.json("dead-letter", "show", letter.letter_id)["file"]
    assert (told["name"], told["size"], len(told["sha256"])) == (path.name, len(content), 64)
    assert cli.run("dead-letter", "replay", "--all").stdout == "replayed 1 letter, 0 left\n"
    assert (cli.spool.queue / letter.segment).read_bytes() == content
    assert left(cli) == []


def test_that_a_file_is_not_there_any_more_is_said(cli: Cli) -> None:
    letter = set_aside(cli)
    DeadLetterBox(cli.spool).file(letter).unlink()
    done = cli.run("dead-letter", "replay", "--all")
    assert done.stdout == "replayed 0 letters, 0 left\n"
    assert done.stderr.startswith(f"{letter.letter_id}: its file is not there any more")
    assert (left(cli), cli.queued()) == ([], [])


def test_what_is_no_segment_is_for_import(cli: Cli) -> None:
    (cli.spool.queue / "notes.txt").write_bytes(b"hello")
    box = DeadLetterBox(cli.spool)
    letter = box.set_aside(cli.spool.queue / "notes.txt", "foreign", "its name")
    done = cli.run("dead-letter", "replay", "--all", code=1)
    assert f"snowledger import {box.file(letter)}" in done.stderr
    cli.run("dead-letter", "purge", "--all", "--yes")
    assert not box.file(letter).exists()


def test_purge_shows_asks_and_chooses(cli: Cli) -> None:
    put(cli, REJECTED, OTHER, DAMAGED, OLD)
    shown = cli.run("dead-letter", "purge", "--older-than", "30d", "--dry-run").stdout
    assert shown.startswith(f"{OLD.letter_id}  rejected")
    assert shown.endswith("1 letter would be purged\n")
    assert "--yes" in cli.run("dead-letter", "purge", "--all", code=1).stderr
    assert len(left(cli)) == 4
    assert cli.run("dead-letter", "purge", "--older-than", "12h", "--class", "damaged", "--yes").stdout.startswith("0 ")
    assert cli.run("dead-letter", "purge", "--older-than", "30d", "--yes").stdout == "purged 1 letter, 3 left\n"
    cli.run("dead-letter", "purge", "--class", "damaged", "--yes")
    cli.run("dead-letter", "purge", OTHER.letter_id[:9], "--yes")
    assert left(cli) == [REJECTED.letter_id]


def test_what_to_purge_is_said_in_one_way(cli: Cli) -> None:
    put(cli, REJECTED)
    wrong = (
        "",
        "--all --class damaged",
        "--class odd",
        "--older-than 30",
        f"--older-than {'9' * 5000}d",
        f"{REJECTED.letter_id} --all",
    )
    for arguments in wrong:
        cli.run("dead-letter", "purge", *arguments.split(), "--yes", code=2)
    assert left(cli) == [REJECTED.letter_id]
