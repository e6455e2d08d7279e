"""``snowledger`` that also tells its number of asyncio tasks: ``python -m bench.counted FILE COMMAND…``."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path

EVERY_S = 0.5

_run_forever = asyncio.BaseEventLoop.run_forever


def _count(loop: asyncio.AbstractEventLoop, file: Path) -> None:
    while True:
        file.write_text(str(len(asyncio.all_tasks(loop))), encoding="ascii")
        time.sleep(EVERY_S)


def _counted(self: asyncio.BaseEventLoop) -> None:
    threading.Thread(target=_count, args=(self, FILE), daemon=True).start()
    _run_forever(self)


if __name__ == "__main__":
    FILE = Path(sys.argv.pop(1))
    asyncio.BaseEventLoop.run_forever = _counted  # type: ignore[method-assign]
    from snowledger.__main__ import main

    main()
