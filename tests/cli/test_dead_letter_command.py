"""``snowledger dead-letter``: seen, and replayed exactly once."""

import json
from pathlib import Path
from typing import Any

from tests.cli.cli_process import Cli

from snowledger_queue import DeadLetter, DeadLetterBox, Origin, ProcessLock, dead_letter, new_event

SEGMENT = "1763700000000-0123456789ab-00000001-9.ndjson"


def line(customer: str = "acme") -> bytes:
    origin = Origin("0.1.0", "session")
    return new_event(origin, activity="cdesk.user_asked", customer=customer, feature_json={"n": 1}).line[:-1]


def put(cli: Cli, *letters: DeadLetter) -> None:
    DeadLetterBox(cli.spool).put(letters)


def left(cli: Cli) -> list[str]:
    return [letter.letter_id for letter in DeadLetterBox(cli.spool).letters()]


REJECTED = dead_letter("rejected", "no such \x1b[31mtype", SEGMENT, 0, line())
OTHER = dead_letter("rejected", "the same", SEGMENT, 400, line("globex"))
DAMAGED = dead_letter("damaged", "the checksum does not match", SEGMENT, 800, line().replace(b"acme", b"acmf"))
GARBAGE = dead_letter("damaged", "no checksum", SEGMENT, 1200, b"\xff\x00\x1b[2J")


def test_list_shows_one_on_each_line_and_nothing_that_a_terminal_obeys(cli: Cli) -> None:
    cli.make_spool()
    assert cli.run("dead-letter", "list").stdout == "no dead letters\n"
    assert cli.run("dead-letter", "list", "--json").stdout == ""
    put(cli, REJECTED, DAMAGED)
    first, second = cli.run("dead-letter", "list").stdout.splitlines()
    assert first.startswith(f"{REJECTED.letter_id}  rejected      ")
    assert first.endswith(f"{SEGMENT}:0  no such \\x1b[31mtype")
    assert second.startswith(f"{DAMAGED.letter_id}  damaged       ")
    objects = [json.loads(text) for text in cli.run("dead-letter", "list", "--json").stdout.splitlines()]
    assert [found["letter_id"] for found in objects] == [REJECTED.letter_id, DAMAGED.letter_id]
    assert objects[0]["original_text"].encode() == REJECTED.original


def test_show_takes_the_first_digits_and_shows_any_bytes(cli: Cli) -> None:
    put(cli, REJECTED, GARBAGE)
    shown = cli.run("dead-letter", "show", REJECTED.letter_id[:8]).stdout
    assert REJECTED.original.decode() in shown
    garbage = cli.run("dead-letter", "show", GARBAGE.letter_id).stdout
    assert "original_base64" in garbage
    assert "\x1b" not in garbage
    found: dict[str, Any] = cli.json("dead-letter", "show", REJECTED.letter_id)
    assert found["offset"] == 0


def test_an_id_that_no_letter_has_is_said(cli: Cli) -> None:
    put(cli, REJECTED)
    for command, wanted in (("show", "zz"), ("replay", "")):
        done = cli.run("dead-letter", command, wanted, code=1)
        assert done.stderr.startswith("snowledger: no dead letter has an id that begins with ")


def test_replay_queues_the_same_event_and_then_forgets_the_letter(cli: Cli) -> None:
    put(cli, REJECTED, OTHER)
    done = cli.run("dead-letter", "replay", OTHER.letter_id, OTHER.letter_id[:10])
    assert done.stdout == "replayed 1 letter, 0 left\n"
    assert left(cli) == [REJECTED.letter_id]
    assert cli.queued() == [json.loads(OTHER.original)]
    cli.run("dead-letter", "replay", "--all")
    assert left(cli) == []
    assert {event["activity_id"] for event in cli.queued()} == {
        json.loads(letter.original)["activity_id"] for letter in (REJECTED, OTHER)
    }


def test_damaged_letters_need_force_and_what_is_no_event_stays(cli: Cli) -> None:
    put(cli, REJECTED, DAMAGED, GARBAGE)
    done = cli.run("dead-letter", "replay", "--all", code=1)
    assert done.stdout == "replayed 1 letter, 2 left\n"
    assert f"{DAMAGED.letter_id}: its bytes are not those that were logged; --force" in done.stderr
    assert left(cli) == [DAMAGED.letter_id, GARBAGE.letter_id]

    done = cli.run("dead-letter", "replay", "--all", "--force", code=1)
    assert done.stderr.startswith(f"{GARBAGE.letter_id}: not an event any more: json: ")
    assert left(cli) == [GARBAGE.letter_id]
    assert cli.queued()[-1]["customer"] == "acmf"


def test_a_rejected_letter_whose_bytes_changed_since_counts_as_damaged(cli: Cli) -> None:
    put(cli, dead_letter("rejected", "refused", SEGMENT, 0, DAMAGED.original))
    assert "--force" in cli.run("dead-letter", "replay", "--all", code=1).stderr


def test_letters_of_a_segment_that_is_still_there_wait(cli: Cli) -> None:
    cli.log(1)
    (segment,) = cli.spool.sealed_segments()
    put(cli, dead_letter("rejected", "refused", segment.path.name, 0, line()))
    done = cli.run("dead-letter", "replay", "--all", code=1)
    assert "still being loaded" in done.stderr
    assert len(left(cli)) == 1


def test_two_replays_at_once_are_refused(cli: Cli) -> None:
    put(cli, REJECTED)
    lock = ProcessLock.acquire(cli.spool.dead_letters / "replay.lock", "replay")
    done = cli.run("dead-letter", "replay", "--all", code=4)
    lock.release()
    assert "is held by process" in done.stderr
    assert left(cli) == [REJECTED.letter_id]


def test_a_queue_that_does_not_take_them_keeps_the_letters(cli: Cli, tmp_path: Path) -> None:
    put(cli, REJECTED)
    cli.spool.queue.rename(tmp_path / "away")
    (cli.home / "queue").write_bytes(b"")
    cli.run("dead-letter", "replay", "--all", code=3)
    assert left_in(tmp_path / "spool" / "dead_letters") == 1


def left_in(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.ndjson"))


def test_ids_or_all_but_not_both_or_neither(cli: Cli) -> None:
    put(cli, REJECTED)
    for arguments in ([], ["--all", REJECTED.letter_id]):
        assert "either the ids" in cli.run("dead-letter", "replay", *arguments, code=2).stderr
