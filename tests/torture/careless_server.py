"""`snowledger` with a queue that flushes nothing: what a test of power loss must notice."""

from snowledger.__main__ import main
from snowledger_queue import _platform

if __name__ == "__main__":
    _platform.sync_data = lambda descriptor: None  # noqa: ARG005 - the name is part of the type
    main()
