"""How many connections the process may have: each takes a file descriptor."""

from __future__ import annotations

import logging
import sys

log = logging.getLogger(__name__)

OTHERS = 192
"""Descriptors for all that is no connection: segments, state.db, artifacts, sockets to accept on. Some 30 are in use;
without one a call could not be stored. And 64 of them are for connections that were refused a moment ago."""


def room_for(connections: int) -> int:
    """Raise the process's limit as far as it goes, and as needed; how many connections there can be then."""
    if sys.platform == "win32":
        return connections
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):  # macOS has a lower limit that it does not tell
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        connections = max(2, soft - OTHERS)
        log.warning("file descriptors (%d) are enough for %d connections (ulimit -n)", soft, connections)
    return connections
