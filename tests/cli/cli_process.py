"""The real command in a process of its own, away from the settings of whoever runs the tests."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
from tests.command_server import SERVER

from snowledger_queue import Origin, Spool, SpoolStatistics, new_event, open_spool, open_writer

CONFIGURING = ("SNOWLEDGER_", "XDG_", "QUEUE_DIR", "SNOW_CONNECTION", "BACKPRESSURE_", "MAX_QUEUE_SIZE")


def until(condition: Callable[[], bool]) -> None:
    """Poll until it is so; a busy machine has 15 s."""
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Cli:
    """Runs snowledger in a folder and with a spool of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "spool"
        self.variables = {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURING)}
        self.variables |= {"HOME": str(folder), "SNOWLEDGER_HOME": str(self.home), "SNOWLEDGER_CUSTOMER": "acme"}

    def environment(self, variables: dict[str, str | None]) -> dict[str, str]:
        changed = {**self.variables, **variables}
        return {name: value for name, value in changed.items() if value is not None}

    def run(
        self, *arguments: str | Path, code: int = 0, text: str | bytes = b"", **variables: str | None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and check its exit code; a variable that is None is not set."""
        given = text.encode() if isinstance(text, str) else text
        done = SERVER.run(arguments, self.folder, self.environment(variables), given)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def start(self, *arguments: str | Path, **variables: str | None) -> subprocess.Popen[bytes]:
        """Start a command that goes on."""
        return subprocess.Popen(
            [sys.executable, "-m", "snowledger", *arguments],
            cwd=self.folder,
            env=self.environment(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    @property
    def spool(self) -> Spool:
        return open_spool(self.home)

    def make_spool(self) -> None:
        open_spool(self.home)

    def queued(self) -> list[dict[str, Any]]:
        """All events in the queue, in order."""
        segments = self.spool.sealed_segments()
        return [json.loads(line) for segment in segments for line in segment.path.read_bytes().splitlines()]

    def statistics(self) -> SpoolStatistics:
        return self.spool.statistics()

    def log(self, count: int) -> None:
        """Queue events as a server would."""
        origin = Origin("0.1.0", "session")
        events = [
            new_event(origin, activity="cdesk.user_asked", customer="acme", feature_json={"number": number})
            for number in range(count)
        ]

        async def append() -> None:
            async with open_writer(self.spool) as writer:
                await writer.append(events)

        anyio.run(append)


def imported_by(cli: Cli, *arguments: str, text: bytes = b"") -> set[str]:
    """The modules that a command has loaded at its end."""
    program = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: open('modules.json', 'w').write(json.dumps(list(sys.modules))))\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "from snowledger.__main__ import main\n"
        "main()\n"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=cli.folder,
        env=cli.environment({}),
        input=text,
        capture_output=True,
        check=True,
    )
    return set(json.loads((cli.folder / "modules.json").read_text()))
