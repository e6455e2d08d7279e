"""What commands say and do when the queue is too full, or the disk."""

import json
import subprocess
from typing import Any

from tests.cli.cli_process import Cli, until

from snowledger_queue import lock_holder

LINES = "\n".join(
    json.dumps({"activity": "cdesk.user_asked", "customer": "acme", "ts": "2026-01-01", "feature_json": {"n": number}})
    for number in range(3000)
)


def pressure(cli: Cli, **variables: Any) -> tuple[str, str | None]:
    found = json.loads(cli.run("status", "--json", **variables).stdout)["queue"]["pressure"]
    return found["state"], found["reason"]


def test_status_measures_the_spool_against_the_settings(cli: Cli) -> None:
    cli.log(5)
    assert pressure(cli, SNOWLEDGER_BACKPRESSURE_EVENTS="2") == ("refusing", "events")
    assert pressure(cli, MAX_QUEUE_SIZE="1") == ("refusing", "bytes")
    assert pressure(cli, BACKPRESSURE_THRESHOLD="1") == ("sampling", "age")
    assert pressure(cli, BACKPRESSURE_THRESHOLD="1", SNOWLEDGER_BATCH_AGE_S="60") == ("normal", None)
    assert pressure(cli, SNOWLEDGER_MIN_FREE_DISK="1PiB") == ("refusing", "disk")
    assert "pressure      normal\n" in cli.run("status").stdout
    said = "sampling: the queue is filling up: 5 events wait to be loaded, over 4 (backpressure_events)"
    assert f"pressure      {said}\n" in cli.run("status", SNOWLEDGER_BACKPRESSURE_EVENTS="4").stdout


def test_an_import_into_a_full_queue_that_nobody_drains_ends_and_can_be_repeated(cli: Cli) -> None:
    done = cli.run("import", "-", text=LINES, code=1, MAX_QUEUE_SIZE="200000")
    [said] = done.stderr.splitlines()
    assert said.startswith("snowledger: the queue is full: ")
    assert said.endswith(
        "(max_queue_bytes), and no uploader runs; 1,000 events queued. Start 'snowledger upload' and import the files "
        "again: what is queued already counts once"
    )
    assert cli.statistics().events == 1000
    cli.run("import", "-", text=LINES)
    assert len({event["activity_id"] for event in cli.queued()}) == 3000


def test_an_import_waits_for_the_uploader(cli: Cli, processes: list[subprocess.Popen[bytes]]) -> None:
    cli.make_spool()
    processes.append(cli.start("upload"))
    until(lambda: lock_holder(cli.spool.uploader_lock) is not None)
    done = cli.run("import", "-", text=LINES, MAX_QUEUE_SIZE="200000")
    assert done.stdout.startswith("queued 3,000 events, 0 lines rejected (")
    [said] = done.stderr.splitlines()
    assert said.startswith("waiting for the uploader: the queue is full: ")
    until(lambda: cli.statistics().events == 0)


def test_a_disk_below_the_reserve_is_told_and_takes_no_import(cli: Cli) -> None:
    done = cli.run("import", "-", text=LINES, code=1, SNOWLEDGER_MIN_FREE_DISK="1PiB")
    assert "the disk is nearly full: " in done.stderr
    assert "0 events queued. Make room and import" in done.stderr
    findings = json.loads(cli.run("doctor", "--json", code=1, SNOWLEDGER_MIN_FREE_DISK="1PiB").stdout)
    [disk] = [finding for finding in findings if finding["check"] == "disk"]
    assert (disk["state"], disk["advice"]) == ("fail", "make room: events are refused")
