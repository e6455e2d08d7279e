"""`dead-letter replay --all` that ends by SIGKILL at a named point: crashing_replay.py POINT"""

import os
import signal
import sys
from typing import Any

from snowledger.__main__ import main
from snowledger_queue import DeadLetterBox

POINTS = {
    "before the first letter is forgotten": ("remove", False),
    "after some letters are forgotten": ("remove", True),
    "after a file is back": ("put_back", True),
}


def crash_at(name: str, *, after: bool) -> None:
    work = getattr(DeadLetterBox, name)

    def crash(*arguments: Any) -> None:
        if after:
            work(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(DeadLetterBox, name, crash)


if __name__ == "__main__":
    point, late = POINTS[sys.argv[1]]
    crash_at(point, after=late)
    sys.argv[1:] = ["dead-letter", "replay", "--all"]
    main()
