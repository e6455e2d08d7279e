"""Starts `queue_process_main.py` and reads what it prints."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SCRIPT = Path(__file__).with_name("queue_process_main.py")


class QueueProcess:
    """A running `queue_process_main.py`."""

    def __init__(self, *arguments: str | Path, under: tuple[str, ...] = ()) -> None:
        self._process = subprocess.Popen(
            [*under, sys.executable, "-W", "error", SCRIPT, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )

    def facts(self) -> Iterator[dict[str, object]]:
        """What it prints, until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith(b"\n"):
                yield json.loads(line)

    def next(self) -> dict[str, object]:
        return next(self.facts())

    def acked(self) -> list[str]:
        """All ids that it acknowledges until it ends."""
        return [str(name) for fact in self.facts() for name in list_of(fact.get("acked"))]

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait()

    def end(self) -> int:
        """Let it end in good order; its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(30)

    def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        return self._process.wait(30)

    def let_end(self) -> None:
        """Close its standard input, without waiting."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def close(self) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def list_of(value: object) -> list[object]:
    return value if isinstance(value, list) else []
