"""`upload --once` that ends by SIGKILL at a named point: crashing_uploader.py HOME POINT"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from snowledger_queue import DeadLetterBox, OsFilesystem
from snowledger_uploader import Drain, DuckDBWarehouse, UploaderConfig, _duckdb, run

POINTS = {
    "before the load": (DuckDBWarehouse, "_load", False),
    "inside the transaction": (_duckdb, "receipt_event", False),
    "after the commit": (DuckDBWarehouse, "_load", True),
    "before the dead letters": (Drain, "_settle", False),
    "after the dead letters": (DeadLetterBox, "put", True),
    "after the first deletion": (OsFilesystem, "remove", True),
}


def crash_at(owner: Any, name: str, *, after: bool) -> None:
    work = getattr(owner, name)

    def crash(*arguments: Any, **options: Any) -> None:
        if after:
            work(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, crash)


if __name__ == "__main__":
    home = Path(sys.argv[1])
    crashing, attribute, late = POINTS[sys.argv[2]]
    crash_at(crashing, attribute, after=late)
    run(UploaderConfig(home=home, duckdb_path=home / "warehouse.duckdb", version="1.2.3", once=True))
