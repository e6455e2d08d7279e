"""``snowledger doctor``: a finding for each check, with what to do."""

import json
import os
from typing import Any

import pytest
from tests.cli.cli_process import Cli

from snowledger_queue import DeadLetterBox, ProcessLock, dead_letter

CHECKS = [
    "python",
    "settings",
    "spool",
    "disk",
    "durable write",
    "uploader",
    "warehouse",
    "dead letters",
    "tokens",
    "claude desktop",
]


def findings(cli: Cli, code: int = 0) -> dict[str, dict[str, Any]]:
    return {finding["check"]: finding for finding in cli.json("doctor", code=code)}


def test_a_fresh_machine_is_fine_and_stays_as_it_is(cli: Cli) -> None:
    found = findings(cli)
    assert list(found) == CHECKS
    assert {finding["state"] for finding in found.values()} == {"ok"}
    assert list(cli.folder.iterdir()) == []


def test_a_spool_in_use_is_fine_in_both_forms(cli: Cli) -> None:
    cli.log(2)
    cli.run("upload", "--once")
    found = findings(cli)
    assert [name for name, finding in found.items() if finding["state"] != "ok"] == []
    assert "a flush takes" in found["durable write"]["found"]
    assert "has its schema" in found["warehouse"]["found"]
    assert list(cli.spool.work.iterdir()) == []
    # What is found goes on in the next line where it is long, as a path may be.
    lines = [line for line in cli.run("doctor").stdout.splitlines() if not line.startswith(" ")]
    assert [line[6:22].strip() for line in lines] == CHECKS
    assert {line[:6] for line in lines} == {"ok    "}


def test_waiting_events_and_dead_letters_are_warnings_with_the_command_to_run(cli: Cli) -> None:
    cli.log(2)
    DeadLetterBox(cli.spool).put([dead_letter("damaged", "why", "s", 0, b"x")])
    found = findings(cli)
    assert (found["uploader"]["state"], found["uploader"]["found"]) == ("warn", "none runs, 2 events waiting")
    assert found["uploader"]["advice"] == "run: snowledger upload --once"
    assert (found["dead letters"]["state"], found["dead letters"]["found"]) == ("warn", "1 letter")
    assert "-> see: snowledger dead-letter list" in cli.run("doctor").stdout


def test_a_running_uploader_is_named(cli: Cli) -> None:
    lock = ProcessLock.acquire(cli.spool.uploader_lock, "uploader")
    found = findings(cli)["uploader"]
    lock.release()
    assert (found["state"], found["found"]) == ("ok", f"process {os.getpid()}, None")


def test_wrong_settings_fail_and_end_it(cli: Cli) -> None:
    (cli.folder / "snowledger.toml").write_text('warehose = "duckdb"\n')
    found = findings(cli, code=1)
    assert list(found) == ["python", "settings"]
    assert found["settings"]["state"] == "fail"
    assert "did you mean warehouse?" in found["settings"]["found"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_spool_open_to_others_fails_and_the_other_checks_go_on(cli: Cli) -> None:
    cli.make_spool()
    cli.home.chmod(0o755)
    found = findings(cli, code=1)
    assert found["spool"]["state"] == "fail"
    assert "chmod 700" in found["spool"]["found"]
    assert list(found) == CHECKS


def test_a_file_that_is_no_database_fails(cli: Cli) -> None:
    cli.make_spool()
    (cli.home / "warehouse.duckdb").write_bytes(b"not a database" * 1000)
    found = findings(cli, code=1)["warehouse"]
    assert found["state"] == "fail"
    assert "mend or move the file" in found["advice"]


def test_snowflake_without_a_connection_is_said(cli: Cli) -> None:
    done = cli.run("doctor", "--json", code=1, SNOWLEDGER_WAREHOUSE="snowflake")
    (found,) = [finding for finding in json.loads(done.stdout) if finding["state"] == "fail"]
    assert (found["check"], "set SNOW_CONNECTION" in found["found"]) == ("warehouse", True)


def test_claude_desktop_is_checked_where_it_is(cli: Cli) -> None:
    folder = cli.folder / "config"
    (folder / "Claude").mkdir(parents=True)
    cli.variables |= {"XDG_CONFIG_HOME": str(folder)}
    if not str(folder).startswith("/"):
        pytest.skip("only Linux has a place that a variable moves")
    assert findings(cli)["claude desktop"]["advice"] == "run: snowledger install claude-desktop"
    cli.run("install", "claude-desktop")
    assert findings(cli)["claude desktop"]["state"] == "ok"
    cli.variables["SNOWLEDGER_CUSTOMER"] = "globex"
    found = findings(cli)["claude desktop"]
    assert found["state"] == "warn"
    assert "env.SNOWLEDGER_CUSTOMER differs" in found["found"]
    (folder / "Claude" / "claude_desktop_config.json").write_text("{")
    assert "mend it first" in findings(cli)["claude desktop"]["found"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_an_empty_folder_that_others_can_enter_is_a_failure(cli: Cli) -> None:
    cli.home.mkdir(mode=0o755)
    found = findings(cli, code=1)
    assert found["spool"]["state"] == "fail"
    assert "chmod 700" in found["spool"]["found"]


def test_tokens_that_let_nobody_in_are_found(cli: Cli) -> None:
    cli.run("token", "add", "alice", "--customer", "acme")
    assert findings(cli)["tokens"]["found"] == f"1 token in {cli.home / 'tokens.json'}"
    (cli.home / "tokens.json").write_text("{")
    broken = findings(cli, code=1)["tokens"]
    assert (broken["state"], str(cli.home / "tokens.json") in broken["found"]) == ("fail", True)
