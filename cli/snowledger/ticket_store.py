"""The tickets of a spool, for commands: opened, made where there are none yet, and found by their ids."""

from __future__ import annotations

import os
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from .errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snowledger_queue import Spool, Ticket, Tickets

_MADE_WITHIN_S = 5.0
"""An uploader that has just started makes ``state.db`` first."""

_LOOK_S = 0.05

_NEWEST = 10_000
"""Among so many tickets one is found by the first digits of its id; by the whole id among all."""


def timestamp_now() -> str:
    """The time in the form of ``ts``, as tickets have it."""
    from datetime import UTC, datetime

    from snowledger_queue import timestamp

    return timestamp(datetime.now(UTC))


def has_tickets(spool: Spool) -> bool:
    """Whether there is a ``state.db``; without one there are no tickets."""
    return os.path.lexists(spool.state)


@contextmanager
def open_tickets(spool: Spool, *, make: bool = False) -> Iterator[Tickets]:
    """The tickets; ``make`` makes the file for them if it is missing or bad, or waits for an uploader that does.

    Raises:
        CommandError: there are none, and none are to be made.
        snowledger_queue.StateError: there is no file that can be used.
    """
    from snowledger_queue import StateError, Tickets

    if not make and not has_tickets(spool):
        raise CommandError("there are no tickets: nobody has asked for a query here yet")
    with closing(Tickets(spool)) as tickets:
        deadline = time.monotonic() + _MADE_WITHIN_S
        while make:
            try:
                tickets.list(None, 1)
            except StateError:
                if not _made(spool) and time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_S)
            else:
                break
        yield tickets


def find_ticket(tickets: Tickets, ticket_id: str) -> Ticket:
    """Anybody's ticket with this id, or of which it is the unique beginning. The command line is the operator's.

    Raises:
        CommandError: there is none, or there are several.
    """
    wanted = ticket_id.lower()
    ticket = tickets.of_anybody(wanted)
    if ticket is not None:
        return ticket
    found = [one for one in tickets.list(None, _NEWEST) if wanted and one.ticket_id.startswith(wanted)]
    if len(found) != 1:
        what = "no ticket has" if not found else f"{len(found)} tickets have"
        raise CommandError(f"{what} an id that begins with {ticket_id!a}; see snowledger tickets list --all")
    return found[0]


def _made(spool: Spool) -> bool:
    """Make ``state.db`` in place of an uploader; False when one is at work, which does so itself."""
    from snowledger_queue import LockHeldError, ProcessLock, RunnerTickets

    try:
        lock = ProcessLock.acquire(spool.uploader_lock, "state.db")
    except LockHeldError:
        return False
    try:
        with closing(RunnerTickets(spool)) as tickets:
            # The first thing that an uploader does with it, and for us the one that makes the file.
            tickets.recover(timestamp_now())
    finally:
        lock.release()
    return True
