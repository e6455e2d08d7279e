"""`upload --once` that ends by SIGKILL at a named point: crashing_uploader.py HOME POINT"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from snowledger_queue import ContextStore, DeadLetterBox, OsFilesystem, RunnerTickets
from snowledger_uploader import Artifacts, Drain, DuckDBWarehouse, UploaderConfig, run
from snowledger_uploader._duckdb import _warehouse
from snowledger_uploader._result_file import ResultFile

POINTS = {
    "before the load": (DuckDBWarehouse, "_load", False),
    "inside the transaction": (_warehouse, "receipt_event", False),
    "after the commit": (DuckDBWarehouse, "_load", True),
    "before the fold": (ContextStore, "fold", False),
    "after the fold": (ContextStore, "fold", True),
    "after the confirmation": (ContextStore, "confirm", True),
    "before the dead letters": (Drain, "_settle", False),
    "after the dead letters": (DeadLetterBox, "put", True),
    "after the first deletion": (OsFilesystem, "remove", True),
}

QUERY_POINTS = {
    "after the claim": (RunnerTickets, "claim", True),
    "after the result is written": (ResultFile, "finish", True),
    "after the result is kept": (Artifacts, "keep", True),
    "after the end is logged": (RunnerTickets, "succeed", False),
    "after the end": (RunnerTickets, "succeed", True),
}
"""At most one query may be asked."""


def crash_at(owner: Any, name: str, *, after: bool) -> None:
    work = getattr(owner, name)

    def crash(*arguments: Any, **options: Any) -> None:
        if after:
            done = work(*arguments, **options)
            if name == "claim" and done is None:
                return
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, crash)


if __name__ == "__main__":
    home = Path(sys.argv[1])
    crashing, attribute, late = (POINTS | QUERY_POINTS)[sys.argv[2]]
    crash_at(crashing, attribute, after=late)
    run(UploaderConfig(home=home, duckdb_path=home / "warehouse.duckdb", version="1.2.3", once=True))
