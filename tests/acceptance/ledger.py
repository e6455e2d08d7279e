"""One spool with its warehouse, and the real commands on it as processes."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import psutil
from mcp.client.stdio import StdioServerParameters
from tests.command_server import SERVER, Command

from snowledger_queue import DeadLetter, DeadLetterBox, Spool, open_spool

PATIENCE_S = 40.0  # a busy machine must not fail a test; every wait ends far sooner
CONFIGURING = ("SNOWLEDGER_", "XDG_", "QUEUE_DIR", "SNOW_CONNECTION", "BACKPRESSURE_", "MAX_QUEUE_SIZE")


class Ledger:
    """Away from the settings of whoever runs the tests. `close` leaves no process behind."""

    def __init__(self, folder: Path, home: Path | None = None) -> None:
        self.folder = folder
        self.home = home or folder / "spool"
        self.warehouse = self.home / "warehouse.duckdb"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURING)}
        self.environment |= {"HOME": str(folder), "SNOWLEDGER_HOME": str(self.home), "SNOWLEDGER_CUSTOMER": "acme"}
        self._started: dict[Command | subprocess.Popen[bytes], tuple[str, ...]] = {}

    @property
    def spool(self) -> Spool:
        return open_spool(self.home)

    def start(self, *arguments: str, script: str | None = None, **variables: str) -> Command:
        """Start a command that goes on, or a script in its place; its standard error is collected in `errors`."""
        with self._log.open("ab") as log:
            process = SERVER.start(arguments, self.folder, {**self.environment, **variables}, log.fileno(), script)
        self._started[process] = arguments
        return process

    def start_new(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The same in an interpreter of its own; takes half a second more."""
        command = [sys.executable, "-m", "snowledger", *arguments]
        pipe = subprocess.PIPE
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdin=pipe, stdout=pipe, stderr=log, bufsize=0
            )
        self._started[process] = arguments
        return process

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and check its exit code."""
        done = SERVER.run(arguments, self.folder, self.environment)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def server(self, *arguments: str, **variables: str) -> StdioServerParameters:
        """How the official client starts `serve`."""
        program, *words = SERVER.program("serve", *arguments)
        return StdioServerParameters(
            command=program, args=words, env={**self.environment, **variables}, cwd=self.folder
        )

    def new_server(self, *arguments: str, **variables: str) -> StdioServerParameters:
        """The same in an interpreter of its own, as clients start it; takes half a second more."""
        words = ["-m", "snowledger", "serve", *arguments]
        return StdioServerParameters(
            command=sys.executable, args=words, env={**self.environment, **variables}, cwd=self.folder
        )

    @property
    def errors(self) -> str:
        return self._log.read_text()

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the warehouse; waits while an uploader has it open. Nothing while there is none yet."""
        deadline = time.monotonic() + PATIENCE_S
        while self.warehouse.exists():
            try:
                with duckdb.connect(str(self.warehouse), read_only=True) as connection:
                    return connection.execute(sql, parameters).fetchall()
            except duckdb.CatalogException:
                return []  # the uploader has made the file and not yet its schema
            except duckdb.IOException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        return []

    def delivered(self) -> list[tuple[str, dict[str, Any]]]:
        """Id and content of every event in the warehouse, snowledger's own left out."""
        found = self.rows("SELECT activity_id, payload FROM activities.raw_events")
        events = [(str(name), json.loads(payload)) for name, payload in found]
        return [(name, event) for name, event in events if event["customer"] != "snowledger"]

    def dead_letters(self) -> list[DeadLetter]:
        return list(DeadLetterBox(self.spool).letters())

    def queued(self) -> list[bytes]:
        """Lines in sealed segments, snowledger's own left out."""
        lines = [line for found in self.spool.sealed_segments() for line in found.path.read_bytes().splitlines()]
        return [line for line in lines if b'"customer":"snowledger"' not in line]

    def processes(self, command: str = "") -> list[psutil.Process]:
        """The live processes on this spool that run the command."""
        ours = {run.pid for run, words in self._started.items() if run.poll() is None and command in " ".join(words)}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                about = any(str(self.folder) in word for word in words) and command in " ".join(words)
                if (about or process.pid in ours) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.wait(PATIENCE_S)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        for stray in self.processes():
            with contextlib.suppress(psutil.Error):
                stray.kill()
                stray.wait(PATIENCE_S)

    @property
    def _log(self) -> Path:
        return self.folder / "stderr.txt"


def wait_until(condition: Callable[[], object], what: str = "condition", patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)
