"""``snowledger status``: what it says of a spool, with nothing running and with something running."""

import json
import os
import subprocess
from unittest.mock import ANY

from tests.cli.cli_process import Cli

from snowledger_queue import (
    BatchStatus,
    BreakerStatus,
    DeadLetterBox,
    ProcessLock,
    UploaderStatus,
    dead_letter,
    server_presence,
    write_uploader_status,
)

STATUS = UploaderStatus(
    pid=os.getpid(),
    state="waiting",
    updated_at="2026-11-21T04:00:00.000000Z",
    batches=2,
    events=30,
    inserted=20,
    dead_letters=1,
    problem="the file is locked",
    last_batch=BatchStatus("ab" * 32, 15, 10, "2026-11-21T03:59:00.000000Z", 0.2, 1.25),
    contexts_as_of="2026-11-21T03:58:00.000000Z",
    contexts_problem="the disk is full",
    breaker=BreakerStatus("open", "2026-11-21T03:57:00.000000Z", 7, "2026-11-21T04:00:09.000000Z", 2, 9),
)
NO_LETTERS = dict.fromkeys(("damaged", "rejected", "incompatible", "unreadable", "foreign"), 0)


def test_no_spool_is_said_and_none_is_made(cli: Cli) -> None:
    done = cli.run("status", code=1)
    assert done.stderr.startswith(f"snowledger: there is no spool at {cli.home}")
    assert "--home" in done.stderr
    assert not cli.home.exists()

    cli.home.mkdir()
    cli.run("status", code=1)
    assert list(cli.home.iterdir()) == []


def test_an_empty_spool_where_nothing_ever_ran(cli: Cli) -> None:
    cli.make_spool()
    assert cli.json("status") == {
        "home": str(cli.home),
        "queue": {
            "events": 0,
            "bytes": 0,
            "sealed_segments": 0,
            "active_segments": 0,
            "oldest_age_s": None,
            "torn_tails": 0,
            "pressure": {
                "state": "normal",
                "reason": None,
                "problem": None,
                "free_bytes": ANY,
                "limits": {
                    "max_bytes": 50 * 1024**2,
                    "events": 100_000,
                    "age_s": 120.0,
                    "min_free_bytes": 256 * 1024**2,
                },
            },
        },
        "uploader": {
            "running": False,
            "pid": None,
            "state": None,
            "problem": None,
            "updated_at": None,
            "batches": None,
            "events": None,
            "inserted": None,
            "dead_letters": None,
            "last_batch": None,
            "contexts_as_of": None,
            "contexts_problem": None,
            "breaker": None,
        },
        "servers": 0,
        "dead_letters": {"total": 0, **NO_LETTERS, "oldest_age_s": None, "problem": None},
    }
    assert "uploader      not running\n" in cli.run("status").stdout


def test_what_waits_who_works_and_what_was_set_aside(cli: Cli) -> None:
    cli.log(3)
    spool = cli.spool
    (spool.torn / "x.torn").write_bytes(b"{")
    write_uploader_status(spool, STATUS)
    letters = [dead_letter("damaged", "why", "s", 0, b"x"), dead_letter("rejected", "why", "s", 9, b"y")]
    DeadLetterBox(spool).put(letters)
    lock = ProcessLock.acquire(spool.uploader_lock, "uploader")
    with server_presence(spool):
        report = cli.json("status")
        text = cli.run("status").stdout
    lock.release()

    assert report["queue"]["events"] == 3
    assert report["queue"]["bytes"] == spool.sealed_segments()[0].path.stat().st_size
    assert report["queue"]["sealed_segments"] == 1
    assert 0 < report["queue"]["oldest_age_s"] < 60
    assert report["queue"]["torn_tails"] == 1
    assert report["uploader"]["running"] is True
    assert report["uploader"]["pid"] == os.getpid()
    assert report["uploader"]["state"] == "waiting"
    assert report["uploader"]["last_batch"]["lag_s"] == 1.25
    assert report["servers"] == 1
    assert 0 <= report["dead_letters"].pop("oldest_age_s") < 60
    assert report["dead_letters"] == {"total": 2, **NO_LETTERS, "damaged": 1, "rejected": 1, "problem": None}

    assert report["uploader"]["contexts_as_of"] == "2026-11-21T03:58:00.000000Z"
    assert report["uploader"]["contexts_problem"] == "the disk is full"

    breaker = {"state": "open", "failures": 7, "opened": 2, "retries": 9, "next_probe_in_s": 0.0}
    assert report["uploader"]["breaker"] == breaker | {"since": "2026-11-21T03:57:00.000000Z"}

    lines = {line[:14].strip(): line[14:] for line in text.splitlines()}
    assert lines["queue"].startswith("3 events, ")
    assert lines["uploader"] == f"waiting, process {os.getpid()}"
    assert lines["problem"] == "the file is locked"
    assert lines["breaker"] == "open since 2026-11-21T03:57:00.000000Z, asked again in 0.0 s"
    assert lines["last batch"] == "15 events, 10 new, at 2026-11-21T03:59:00.000000Z"
    assert lines["lag"] == "1.2 s from logged to queryable"
    assert lines["contexts"] == "as of 2026-11-21T03:58:00.000000Z; the disk is full"
    assert lines["dead letters"].startswith("2 (1 damaged, 1 rejected), the oldest ")


def test_an_uploader_that_was_killed_is_not_running(cli: Cli) -> None:
    write_uploader_status(cli.spool, STATUS)
    uploader = cli.json("status")["uploader"]
    assert (uploader["running"], uploader["pid"], uploader["state"]) == (False, None, "stopped")
    assert "not running" in cli.run("status").stdout


def test_watch_goes_on_and_in_a_pipe_prints_an_object_on_each_line(
    cli: Cli, processes: list[subprocess.Popen[bytes]]
) -> None:
    cli.make_spool()
    process = cli.start("status", "--watch", "--json", "--interval", "0.1")
    processes.append(process)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["queue"]["events"] == 0
    cli.log(2)
    assert any(json.loads(process.stdout.readline())["queue"]["events"] == 2 for _ in range(20))
    assert process.poll() is None


def test_a_damaged_file_of_letters_is_named_and_all_else_is_told(cli: Cli) -> None:
    cli.log(3)
    file = cli.spool.dead_letters / "x.ndjson"
    file.write_bytes(b"{}\n")
    assert f"dead letters  none that can be read\n              {file} cannot be read" in cli.run("status").stdout
    DeadLetterBox(cli.spool).put([dead_letter("damaged", "why", "s", 0, b"x")])
    report = cli.json("status")
    assert report["queue"]["events"] == 3
    assert (report["dead_letters"]["total"], report["dead_letters"]["damaged"]) == (1, 1)
    assert report["dead_letters"]["problem"].startswith(f"{file} cannot be read as dead letters")
    checked = {finding["check"]: finding for finding in json.loads(cli.run("doctor", "--json").stdout)}
    assert str(file) in checked["dead letters"]["found"]


def test_a_spool_of_another_format_or_open_to_others_is_refused(cli: Cli) -> None:
    cli.make_spool()
    if os.name != "nt":
        cli.home.chmod(0o755)
        assert "chmod 700" in cli.run("status", code=3).stderr
        cli.home.chmod(0o700)
    (cli.home / "format").write_bytes(b"snowledger spool 2\n")
    assert "snowledger spool 2" in cli.run("status", code=3).stderr
