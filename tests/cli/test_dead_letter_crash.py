"""A replay that is killed between any two of its steps, and done again: every event is in the warehouse once."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from tests.cli.cli_process import Cli
from tests.cli.crashing_replay import POINTS
from tests.cli.test_dead_letter_command import OTHER, REJECTED, left, put

from snowledger_queue import DeadLetterBox

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")

SCRIPT = str(Path(__file__).with_name("crashing_replay.py"))


@pytest.mark.parametrize("point", POINTS)
def test_whenever_a_replay_is_killed_the_next_one_completes_it(cli: Cli, point: str) -> None:
    cli.log(2)
    (segment,) = cli.spool.sealed_segments()
    ids = {event["activity_id"] for event in cli.queued()}
    DeadLetterBox(cli.spool).set_aside(segment.path, "unreadable", "the disk does not give it")
    put(cli, REJECTED, OTHER)
    ids |= {json.loads(letter.original)["activity_id"] for letter in (REJECTED, OTHER)}
    crashed = subprocess.run(
        [sys.executable, SCRIPT, point], cwd=cli.folder, env=cli.environment({}), capture_output=True, check=False
    )
    assert crashed.returncode == -signal.SIGKILL, crashed.stderr
    if "file" in point:
        cli.run("upload", "--once")  # what is back may be loaded before the replay is done again
    assert left(cli)
    cli.run("dead-letter", "replay", "--all")
    assert left(cli) == []
    cli.run("upload", "--once")
    with duckdb.connect(str(cli.home / "warehouse.duckdb"), read_only=True) as connection:
        sql = "SELECT activity_id FROM activities.events WHERE activity = 'cdesk.user_asked'"
        found = [row[0] for row in connection.execute(sql).fetchall()]
    assert sorted(found) == sorted(ids)
    assert list((cli.spool.dead_letters / "files").iterdir()) == []
