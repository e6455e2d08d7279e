"""Waiting for a ticket to end, with an uploader that runs it."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .errors import CommandError, ExitCode
from .serve import LOG_NAME
from .terminal import count, duration, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from snowledger_queue import Spool, Ticket, Tickets

LOOK_S = 0.02
"""How often a wait looks whether ``state.db`` has changed, which takes microseconds."""

LOADED_LOOK_S = 0.1
UPLOADER_LOOK_S = 0.5

MAX_STARTS = 3
"""An uploader that is killed during a query is started anew: the query is given a second try. More often is no help."""

_STORE_WAIT_S = 5.0
"""How long a wait puts up with a ``state.db`` that cannot be read, for it may just be made anew."""


class Uploader:
    """Sees to it that an uploader runs until ``close``: somebody's, or one of its own, which then ends by itself."""

    def __init__(self, spool: Spool, command: Sequence[str] | None) -> None:
        """``command`` starts one; with None only somebody's is there or not."""
        self._spool = spool
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._looked = float("-inf")
        self._stack = ExitStack()

    def check(self) -> None:
        """Refuse to go on when none runs and none may be started.

        Raises:
            CommandError: so it is.
        """
        from snowledger_queue import lock_holder

        if self._command is None and lock_holder(self._spool.uploader_lock) is None:
            raise CommandError(
                "no uploader runs, and only an uploader runs queries; start one with: snowledger upload, "
                "or let SNOWLEDGER_AUTO_UPLOADER=1 start one"
            )

    def look(self) -> None:
        """Start one if there is none. May be called often.

        Raises:
            CommandError: there is none, and none can be started.
        """
        from snowledger_queue import lock_holder, server_presence

        if time.monotonic() < self._looked + UPLOADER_LOOK_S:
            return
        self._looked = time.monotonic()
        code = None if self._process is None else self._process.poll()
        if (self._process is not None and code is None) or lock_holder(self._spool.uploader_lock) is not None:
            return
        self.check()
        # 0 and that of the lock: it had nothing to do, or another one was faster, which is gone as well.
        if code is not None and code not in {0, ExitCode.HELD} and (code > 0 or self._starts >= MAX_STARTS):
            raise CommandError(f"the uploader ended with exit code {code}; its log is {self._spool.home / LOG_NAME}")
        if not self._starts:
            self._stack.enter_context(server_presence(self._spool))
        self._starts += 1
        # A session of its own: Ctrl-C must reach the query through its ticket. The same folder: it may hold settings.
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            self._command or (),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """Let an own one go. Safe to call twice."""
        self._stack.close()


def load_first(spool: Spool, uploader: Uploader, timeout_s: float, show: Callable[[str], None]) -> None:
    """If no uploader runs, start one and wait until it has loaded what is queued: whoever asks expects it counted.

    One that runs already does so all along.

    Raises:
        CommandError: not within the time, or none can be started.
    """
    from snowledger_queue import lock_holder

    if lock_holder(spool.uploader_lock) is not None:
        return
    deadline = time.monotonic() + timeout_s
    before = set(spool.sealed_segments())  # and not what servers log meanwhile, for that may have no end
    while before := before.intersection(spool.sealed_segments()):
        ahead = f"{count(sum(segment.events for segment in before), 'event')} to be loaded first{_problem(spool)}"
        if time.monotonic() > deadline:
            raise CommandError(f"nothing was asked within {duration(timeout_s)}: {ahead}")
        show(ahead)
        uploader.look()
        time.sleep(LOADED_LOOK_S)


def wait_for(
    spool: Spool, tickets: Tickets, ticket: Ticket, uploader: Uploader, timeout_s: float, show: Callable[[str], None]
) -> Ticket:
    """Wait until the ticket has ended, or for so long; the ticket as it is then.

    Raises:
        CommandError: it is gone, or nobody can run it.
        snowledger_queue.StateError: the tickets cannot be read.
    """
    from snowledger_queue import StateError

    deadline = time.monotonic() + timeout_s
    readable = time.monotonic()
    mark: object = None
    while ticket.finished_at is None and time.monotonic() < deadline:
        show(progress_text(spool, ticket))
        uploader.look()
        time.sleep(LOOK_S)
        seen = tickets.mark()
        if seen == mark:
            continue
        try:
            found = tickets.get(ticket.ticket_id, ticket.customer, ticket.customers)
        except StateError:
            if time.monotonic() > readable + _STORE_WAIT_S:
                raise
            continue
        if found is None:
            raise CommandError(f"ticket {ticket.ticket_id} is gone: the tickets were made anew; ask again")
        ticket, mark, readable = found, seen, time.monotonic()
    return ticket


@contextmanager
def status_line() -> Iterator[Callable[[str], None]]:
    """A line on stderr while the context lasts, to say how far things are; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("asking") as status:
        yield lambda text: status.update(Text(printable(text)))


def progress_text(spool: Spool, ticket: Ticket) -> str:
    """How far a ticket is, in a few words."""
    if ticket.status == "running":
        started = datetime.fromisoformat(ticket.started_at or ticket.submitted_at)
        seconds = max(0.0, (datetime.now(UTC) - started).total_seconds())
        return f"running for {duration(seconds)}, {count(ticket.rows_so_far, 'row')} so far"
    if ticket.status != "queued":
        return ticket.status
    before = f"{ticket.position:,} before it" if ticket.position else "next"
    return f"queued, {before}{_problem(spool)}"


def _problem(spool: Spool) -> str:
    """What keeps the uploader from its work."""
    from snowledger_queue import read_uploader_status

    said = read_uploader_status(spool)
    return "" if said is None or not said.problem else f"; the uploader says: {said.problem}"
