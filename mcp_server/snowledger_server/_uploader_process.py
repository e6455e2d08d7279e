"""The uploader of a desktop user: a process of its own, started when nobody else drains the spool."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from snowledger_queue import lock_holder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from snowledger_queue import Spool

log = logging.getLogger(__name__)

CHECK_S = 5.0
"""How soon an uploader that died is replaced; a look at the lock costs microseconds."""

MAX_CHECK_S = 300.0
"""An uploader that cannot start is tried again ever more rarely, but not given up: its cause may be mended."""


async def keep_uploader(spool: Spool, command: Sequence[str]) -> None:
    """See to it that some process drains the spool, until cancelled.

    The uploader outlives this server: it ends by itself once the last server is gone and the queue is drained. Of
    several that start at once the lock lets one win; the others exit.
    """
    wait = CHECK_S
    child: subprocess.Popen[bytes] | None = None
    while True:
        code = None if child is None else child.poll()
        if code is not None:
            child = None
        failed = False
        try:
            if child is None and await to_thread.run_sync(lock_holder, spool.uploader_lock) is None:
                if code:
                    failed = True
                    log.warning("the uploader ended with exit code %d; its log is in %s", code, spool.home)
                child = await to_thread.run_sync(_start, command, spool.home)
        except OSError as error:  # also from the look at the lock: logging events must not depend on either
            failed = True
            log.warning("cannot start the uploader: %s", error)
        wait = min(wait * 2, MAX_CHECK_S) if failed else CHECK_S
        await anyio.sleep(wait)


def _start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
    else:
        flags = 0
    # None of our pipes: a client waits for their end. A session of its own: its signals are not the uploader's.
    return subprocess.Popen(  # noqa: S603 - our own command
        command,
        cwd=folder,  # not the client's, which may hold somebody else's settings file
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        creationflags=flags,
    )
