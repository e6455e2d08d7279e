"""Queries of a server: tickets in ``state.db``, asked for in worker threads, and what there is to ask for."""

from __future__ import annotations

import logging
import os
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio
import orjson
from anyio import to_thread

from snowledger_ddl import checked_parameters, load_templates, query_hash
from snowledger_queue import StateError, Tickets, UnsafeFileError, read_uploader_status, timestamp

from ._errors import TicketNotFoundError
from ._shares import Shares

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
    from pathlib import Path

    from snowledger_ddl import Template
    from snowledger_queue import Spool, Ticket

    from ._identity import Identity

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LAST_PAUSE_S, PAUSE_GROWTH = 0.01, 0.1, 1.25
"""Between two looks at the tickets, which take microseconds: a small query is over in some tens of milliseconds, and
of a longer one nobody notices a tenth of a second."""

REPORT_S = 1.0
"""Between two reports of progress when nothing but the time has changed."""

MAX_WAITING = 128
"""Calls that wait at once, half of them for one customer; further ones answer without. A transport serves twice as many
calls at a time, so there is always room for those that do not wait."""

VERIFY_S = 0.5
"""Longest wait for whether a hash is known. It takes 0.2 ms; an insight must not wait for a locked ``state.db``."""

INLINE_ARTIFACT_BYTES = 1024 * 1024
"""The largest file that is sent as such: base64 makes a third more of it, on one line."""

_TICKET_ID = re.compile(r"[0-9a-f]{32}")

OPEN = frozenset({"queued", "running"})
"""Statuses of tickets that will still change."""


class Submission(NamedTuple):
    """A ticket, and whether it is of an earlier call."""

    ticket: Ticket
    reused: bool


class Artifact(NamedTuple):
    """The file of a result."""

    ticket: Ticket
    path: Path
    content: bytes | None
    """None when it has more than ``INLINE_ARTIFACT_BYTES``."""


class Queries:
    """The templates, and the tickets of one spool. Made by ``open_queries``.

    Whatever asks for tickets may raise ``snowledger_queue.StateError``.
    """

    def __init__(self, spool: Spool, templates: Mapping[str, Template]) -> None:
        self.templates = templates
        self._spool = spool
        self._tickets = Tickets(spool)
        # One thread each is as fast as many would be, and who waits here waits in order.
        self._reads = anyio.CapacityLimiter(1)
        self._writes = anyio.CapacityLimiter(1)
        self._waiting = Shares(MAX_WAITING)
        self._leaving = anyio.Event()
        self._said: set[str] = set()

    async def submit(
        self,
        identity: Identity,
        template: Template,
        params: Mapping[str, object],
        *,
        byte_cap: int | None,
        max_age_s: float,
        query_tag: str,
    ) -> Submission:
        """Ask for a query; it is on stable storage afterwards.

        Raises:
            snowledger_ddl.ParameterError: with all that is wrong with the parameters.
            snowledger_queue.KillSwitchError, snowledger_queue.TooManyTicketsError: it was not taken.
        """
        checked = checked_parameters(template, params)
        submit = partial(
            self._tickets.submit,
            customer=identity.customer,
            customers=template.customers(identity.customer, identity.allowed),
            template=template.name,
            params=orjson.dumps(checked).decode(),
            query_hash=query_hash(template, checked),
            query_tag=query_tag,
            byte_cap=byte_cap,
            max_age_s=max_age_s,
            now=_now(),
        )
        return Submission(*await to_thread.run_sync(submit, limiter=self._writes))

    async def get(self, identity: Identity, ticket_id: object) -> Ticket:
        """The ticket.

        Raises:
            TicketNotFoundError: the same for one that is unknown, one of another customer, one whose result may hold
                rows of customers that the identity may not read, and what is no id.
        """
        get = partial(self._tickets.get, _checked_id(ticket_id), identity.customer, identity.allowed)
        return _found(await to_thread.run_sync(get, limiter=self._reads))

    async def wait(
        self, identity: Identity, ticket_id: object, wait_s: float, progress: Callable[[float, str], Awaitable[None]]
    ) -> Ticket:
        """The ticket when it is finished, or as it is after ``wait_s``; as it is at once when the server leaves.

        ``progress`` is told meanwhile for how many seconds the call waits, and how it stands. Raises as ``get``.
        """
        if not self._waiting.take(identity.customer):
            return await self._wait(identity, ticket_id, 0, progress)
        try:
            return await self._wait(identity, ticket_id, wait_s, progress)
        finally:
            self._waiting.give(identity.customer)

    async def cancel(self, identity: Identity, ticket_id: object) -> Ticket:
        """End the query; the ticket as it is then, which may still be running for a moment. Raises as ``get``."""
        known = _checked_id(ticket_id)
        cancel = partial(self._tickets.cancel, known, identity.customer, _now(), identity.allowed)
        return _found(await to_thread.run_sync(cancel, limiter=self._writes))

    async def artifact(self, identity: Identity, ticket_id: object) -> Artifact:
        """The file of a result.

        Raises:
            TicketNotFoundError: as ``get``, and when there is no file.
        """
        ticket = await self.get(identity, ticket_id)
        if not ticket.artifact:
            raise TicketNotFoundError
        path = self._spool.artifacts / f"{ticket.ticket_id}.parquet"
        return Artifact(ticket, path, await to_thread.run_sync(self._content, path))

    async def obstacle(self) -> str | None:
        """What keeps queued queries from running, but for others before them; None when nothing is known."""
        said = await to_thread.run_sync(read_uploader_status, self._spool, limiter=self._reads)
        if said is None or said.breaker is None or said.breaker.state == "closed" or said.state == "stopped":
            return None
        return f"the warehouse, which has not answered since {said.breaker.since}; it is asked again and again"

    async def finished(self, identity: Identity, customer: str, query_hash: str) -> bool:
        """Whether this customer ran the query to the end, and the identity may read the result.

        False when that cannot be said. Never raises.
        """
        if not self._has_state():
            return False
        allowed = identity.allowed | {identity.customer}
        with anyio.move_on_after(VERIFY_S):
            try:
                return await to_thread.run_sync(
                    self._tickets.finished, customer, query_hash, allowed, limiter=self._reads, abandon_on_cancel=True
                )
            except StateError as error:
                self._say(str(error))
                return False
        self._say(f"{self._spool.state} did not answer within {VERIFY_S} s")
        return False

    def leave(self) -> None:
        """From now on nobody waits: the server is about to end."""
        self._leaving.set()

    def close(self) -> None:
        """Let go of ``state.db``."""
        self._tickets.close()

    async def _wait(
        self, identity: Identity, ticket_id: object, wait_s: float, progress: Callable[[float, str], Awaitable[None]]
    ) -> Ticket:
        begun = anyio.current_time()
        pause = FIRST_PAUSE_S
        seen: Hashable = None
        reported = float("-inf")
        while True:
            # Before the reading: what changes meanwhile must be looked at again.
            mark = self._tickets.mark()
            changed = seen is None or mark != seen
            if changed:
                seen = mark
                ticket = await self.get(identity, ticket_id)
            waited = anyio.current_time() - begun
            if ticket.status not in OPEN or waited >= wait_s or self._leaving.is_set():
                return ticket
            if changed or waited - reported >= REPORT_S:
                await progress(waited, _standing(ticket))
                reported = waited
            with anyio.move_on_after(min(pause, wait_s - waited)):
                await self._leaving.wait()
            pause = min(pause * PAUSE_GROWTH, LAST_PAUSE_S)

    def _has_state(self) -> bool:
        return os.path.lexists(self._spool.state)

    def _content(self, path: Path) -> bytes | None:
        try:
            if self._spool.filesystem.size(path) > INLINE_ARTIFACT_BYTES:
                return None
            return self._spool.filesystem.read(path)
        except (OSError, UnsafeFileError) as error:
            log.warning("a result cannot be read: %s", error)
            raise TicketNotFoundError from error

    def _say(self, reason: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            log.warning("insights are marked unverified: %s", reason)


@contextmanager
def open_queries(
    spool: Spool, templates_dir: Path | None = None, duckdb_database: str | None = None
) -> Iterator[Queries]:
    """The queries of a spool: snowledger's templates and those of a user's folder."""
    catalogue = load_templates(templates_dir, duckdb_database)
    for problem in catalogue.problems:
        log.warning("a template is left out: %s", problem)
    queries = Queries(spool, catalogue.templates)
    try:
        yield queries
    finally:
        queries.close()


def running_s(ticket: Ticket) -> float | None:
    """For how many seconds the query runs; None when it does not."""
    if ticket.status != "running" or ticket.started_at is None:
        return None
    return max(0.0, round((datetime.now(UTC) - datetime.fromisoformat(ticket.started_at)).total_seconds(), 3))


def _standing(ticket: Ticket) -> str:
    if ticket.status == "queued":
        return f"queued, {ticket.position} before it" if ticket.position else "queued, it is the next"
    ending = ", being cancelled" if ticket.cancel_requested else ""
    return f"running for {running_s(ticket) or 0:.1f} s, {ticket.rows_so_far} rows so far{ending}"


def _checked_id(ticket_id: object) -> str:
    if not isinstance(ticket_id, str) or not _TICKET_ID.fullmatch(ticket_id):
        raise TicketNotFoundError
    return ticket_id


def _found(ticket: Ticket | None) -> Ticket:
    if ticket is None:
        raise TicketNotFoundError
    return ticket


def _now() -> str:
    return timestamp(datetime.now(UTC))
