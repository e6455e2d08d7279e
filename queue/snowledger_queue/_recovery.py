"""What a dead writer left: cut the torn tail, keep it aside, seal the rest.

A line is acknowledged only when it, its newline and its flush are done, so whatever follows the last newline was
never acknowledged. A damaged line *before* it stays where it is: the reader finds it by its checksum and
dead-letters it, for it may have been acknowledged.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ._errors import QueueError
from ._names import parse_segment_name
from ._spool import write_small_file

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from pathlib import Path

    from ._spool import Spool

log = logging.getLogger(__name__)


def recover(
    spool: Spool,
    passed_over: Container[Path] = (),
    on_failure: Callable[[Path, OSError | QueueError], None] = lambda _path, _error: None,
) -> int:
    """Seal every active segment whose writer is gone; return how many. Live writers are left alone.

    A segment that cannot be read or renamed is logged and left where it is, and ``on_failure`` hears of it. Blocking;
    any process may call it at any time, also several at once (the segment's lock decides).
    """
    sealed = 0
    for path in spool.active_segments():
        if path in passed_over:
            continue
        try:
            sealed += _recover_segment(spool, path)
        except (OSError, QueueError) as error:
            log.error("cannot recover %s, left where it is: %s", path.name, error)  # noqa: TRY400 - one line each
            on_failure(path, error)
    return sealed


def _recover_segment(spool: Spool, path: Path) -> int:
    filesystem = spool.filesystem
    file = filesystem.claim(path)
    name = parse_segment_name(path.name)
    if file is None or name is None:
        return 0
    try:
        content = filesystem.read(path)
        good = content.rfind(b"\n") + 1
        if good < len(content):
            write_small_file(spool.torn / f"{name.stem}-{good}.torn", content[good:], filesystem)
            file.truncate(good)
        # Also without a tail: lines may be here whose writer died before their flush.
        file.sync()
        if good:
            filesystem.rename(path, spool.queue / name.sealed(content.count(b"\n")))
        else:
            filesystem.remove(path)
        filesystem.sync_folder(spool.queue)
    finally:
        file.close()
    log.info("recovered %s: %d bytes sealed, %d torn bytes kept aside", path.name, good, len(content) - good)
    return 1 if good else 0
