"""How long tickets and the files of their results are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

MAX_AGE_DAYS = 90
"""How long a finished ticket is kept, with its result."""

DELETED_AT_ONCE = 300
"""Tickets deleted in one transaction: some 20 ms, for which nobody can submit."""

PAUSE_S = 0.005
"""Between two such transactions: long enough for one who waits to notice that the file is free."""


class Pruned(NamedTuple):
    """What a pruning did or would do, and what its caller has to do."""

    tickets: int
    """How many were deleted."""
    artifacts: list[str]
    """The ids of those whose files must go now."""


class Expendable(NamedTuple):
    """What of the files need not be kept."""

    beyond_cap: list[str]
    """Of tickets that stay."""
    all: list[str]


def expendable(run: sqlite3.Connection, sizes: Mapping[str, int], oldest: str, max_bytes: int) -> Expendable:
    """Of the files with these sizes, those to be deleted.

    That is the files of no ticket, of one that ended before ``oldest``, of one that did not succeed or lost its file to
    an earlier pruning, and of the oldest ones as many as it takes for the rest to have at most ``max_bytes``.
    """
    keep = set()
    beyond = []
    total = 0
    rows = run.execute("SELECT ticket_id, finished_at, artifact FROM tickets ORDER BY finished_at DESC, number DESC")
    for ticket_id, finished_at, artifact in rows:
        if finished_at is None:
            keep.add(ticket_id)  # it may be written now
        elif finished_at >= oldest and artifact and ticket_id in sizes:
            total += sizes[ticket_id]
            if total <= max_bytes:
                keep.add(ticket_id)
            else:
                beyond.append(ticket_id)
    return Expendable(beyond, sorted(sizes.keys() - keep))


def forget_artifacts(run: sqlite3.Connection, ticket_ids: list[str]) -> None:
    """Note that these files are going."""
    run.executemany("UPDATE tickets SET artifact = 0 WHERE ticket_id = ?", ((found,) for found in ticket_ids))


def count_tickets(run: sqlite3.Connection, oldest: str) -> int:
    """How many ended before ``oldest``."""
    [count] = run.execute("SELECT count(*) FROM tickets WHERE finished_at < ?", (oldest,)).fetchone()
    return int(count)


def delete_tickets(run: sqlite3.Connection, oldest: str) -> int:
    """Delete some of those that ended before ``oldest``; how many, less than ``DELETED_AT_ONCE`` when it was all."""
    return run.execute(
        "DELETE FROM tickets WHERE number IN (SELECT number FROM tickets WHERE finished_at < ? LIMIT ?)",
        (oldest, DELETED_AT_ONCE),
    ).rowcount
