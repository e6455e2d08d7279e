"""The query runner: takes tickets from ``state.db``, runs them beside the drain loop, and finishes each one.

Whatever happens to a query, it must neither keep events from being loaded nor leave a ticket running.
"""

from __future__ import annotations

import logging
import shutil
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio
import orjson
from anyio import to_thread

from snowledger_queue import QueryResult, QueueError, RunnerTickets, StateError, correlated, timestamp

from ._artifacts import Artifacts
from ._breaker import CLOSED, Breaker
from ._budget import Budget
from ._errors import UploaderError
from ._prepare import Preparation
from ._query_events import End, completed, executed
from ._running_query import Running
from ._samples import sample_json

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from pathlib import Path

    from anyio.abc import TaskGroup

    from snowledger_queue import Event, Origin, Spool, Ticket

    from ._limits import QueryLimits
    from ._own_events import OwnEvents
    from ._warehouse import QueryAnswer, Warehouse

log = logging.getLogger(__name__)

TICK_S = 0.05
"""How often tickets are looked at: a look costs microseconds while nothing changes."""

PROGRESS_S = 0.25
"""How often the tickets of running queries are brought up to date, each time with one commit."""

STATE_RETRY_S = 1.0
"""How soon a ``state.db`` that cannot be used is tried again."""


class _Look(NamedTuple):
    """What a look at the tickets brought."""

    claimed: list[Ticket]
    cancel: set[str]
    drained: bool
    """Nothing is queued that may run."""


class QueryRunner:
    """Runs the tickets of a spool, on a warehouse that the drain loop uses too."""

    def __init__(
        self,
        spool: Spool,
        warehouse: Warehouse,
        events: OwnEvents,
        origin: Origin,
        limits: QueryLimits,
        templates_dir: Path | None = None,
        database: str | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        """``templates_dir`` and ``database`` as ``Preparation``."""
        self._spool = spool
        self._warehouse = warehouse
        self._events = events
        self._origin = origin
        self._limits = limits
        self._breaker = breaker or Breaker()
        self._tickets = RunnerTickets(spool)
        self._preparation = Preparation(templates_dir, database, limits)
        self._artifacts = Artifacts(spool, self._tickets, limits.artifact_max_age_days, limits.artifact_max_bytes)
        self._budget = Budget(self._tickets, events, origin, limits.credits_per_hour)
        self.on_end: Callable[[str, float], None] = lambda _status, _seconds: None
        """Hears how each run of a query ended (see ``End``), and for how many seconds it had run."""
        self._running: dict[str, Running] = {}
        self._begun: set[tuple[str, int]] = set()
        """Runs whose beginning is logged: one that is put back, as it was the probe, begins again and again."""
        self._recovered = False
        self._drained = False
        self._seen: Hashable = None
        self._look_at = 0.0
        self._told_at = 0.0
        self._problem: str | None = None
        self._leaving = False

    def quiet(self) -> Hashable | None:
        """Something that stays equal while no ticket is queued or running; None when one is or may be."""
        if self._running:
            return None
        if self._problem is not None or self._leaving:
            return "no ticket can be run"  # so nobody should wait for it
        return self._seen if self._drained and self._seen == (self._tickets.mark(), self._breaker.ready()) else None

    async def run(self, *, check: bool = True) -> None:
        """Run until cancelled; what runs then goes back into the queue. ``check`` logs which templates are bad."""
        try:
            async with anyio.create_task_group() as tasks:
                await to_thread.run_sync(self._preparation.load)
                if check:
                    tasks.start_soon(self._preparation.check, name="templates")
                try:
                    while not self._recovered:
                        await self._tick(tasks)
                        await anyio.sleep(TICK_S)
                    tasks.start_soon(self._artifacts.prune_at_times, name="artifacts")
                    while True:
                        await self._tick(tasks)
                        await anyio.sleep(TICK_S)
                finally:
                    self._leaving = True
        finally:
            self._tickets.close()

    async def _tick(self, tasks: TaskGroup) -> None:
        now, mark = time.monotonic(), (self._tickets.mark(), self._breaker.ready())
        if self._problem is None:
            due = mark != self._seen or (self._running and now - self._told_at >= PROGRESS_S)
        else:
            due = now >= self._look_at
        if not due:
            return
        self._seen = mark
        look = await to_thread.run_sync(self._look, self._places())
        self._drained = look.drained
        for ticket in look.claimed:
            scope = anyio.CancelScope(deadline=anyio.current_time() + self._limits.time_limit_s)
            running = self._running[ticket.ticket_id] = Running(ticket, scope)
            tasks.start_soon(self._run, running, name=f"query {ticket.ticket_id[:8]}")
        for ticket_id in look.cancel & self._running.keys():
            self._running[ticket_id].cancelled = True
            self._running[ticket_id].scope.cancel()

    def _places(self) -> int:
        """How many queries may run at once: one when it will be the probe, none while the warehouse is away."""
        if self._breaker.state == CLOSED:
            return self._limits.concurrency
        return int(self._breaker.ready())

    async def _run(self, running: Running) -> None:
        end: End | None = None
        with correlated(running.ticket.query_tag):
            try:
                with running.scope:
                    end = await self._answered(running)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._settle(running, end or self._cut_short(running))

    def _cut_short(self, running: Running) -> End:
        if running.cancelled:
            return End("cancelled")
        if not running.scope.cancelled_caught:
            return End("released")
        why = "" if running.problem is None else f"; until then the warehouse could not be asked: {running.problem}"
        return End("failed", f"stopped after {self._limits.time_limit_s:g} s, the time limit of a query{why}")

    async def _answered(self, running: Running) -> End:
        ticket = running.ticket
        try:
            if (ticket.ticket_id, ticket.attempts) not in self._begun:
                self._begun.add((ticket.ticket_id, ticket.attempts))
                await to_thread.run_sync(self._put, partial(executed, self._origin, ticket))
            answer = await self._ask(running)
            if answer is None:
                return End("released")
            return await to_thread.run_sync(self._kept, ticket, answer)
        except UploaderError as error:
            return End("failed", str(error))
        except OSError as error:
            log.warning("the result of ticket %s cannot be kept: %s", ticket.ticket_id, error)
            return End("failed", f"the result cannot be kept: {error.strerror or type(error).__name__}")
        except Exception:  # whatever it is, events must be loaded
            log.exception("ticket %s failed", ticket.ticket_id)
            return End("failed", "an error in the uploader; its log says more")

    async def _ask(self, running: Running) -> QueryAnswer | None:
        """Ask the warehouse, again after a failure; None once the breaker has opened. Raises ``UploaderError``."""
        folder = self._folder(running.ticket)
        query = await to_thread.run_sync(self._preparation.query, running.ticket, folder)
        while self._breaker.ready():
            try:
                with self._breaker.attempt() as answered:
                    return await self._warehouse.query(query, running.watcher(answered))
            except UploaderError as error:
                if not error.transient:
                    raise
                running.problem = str(error)
                level = logging.WARNING if self._breaker.state == CLOSED else logging.DEBUG
                log.log(level, "ticket %s waits: %s", running.ticket.ticket_id, error)
            await to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))
            if self._breaker.state == CLOSED:
                await anyio.sleep(max(TICK_S, self._breaker.wait_s()))
        return None

    async def _settle(self, running: Running, end: End) -> None:
        """Finish the ticket, however long ``state.db`` cannot be written; until the uploader ends."""
        ticket_id = running.ticket.ticket_id
        while True:
            try:
                await to_thread.run_sync(self._finish, running, end)
                break
            except StateError as error:
                log.warning("ticket %s cannot be finished: %s", ticket_id, error)
                if self._leaving or not error.transient:
                    break
            await anyio.sleep(STATE_RETRY_S)
        del self._running[ticket_id]
        self.on_end(end.status, time.monotonic() - running.begun)
        if end.status != "released":
            self._begun.discard((ticket_id, running.ticket.attempts))
        self._seen = None  # there is room for another one
        if end.result is not None:
            self._artifacts.added(end.result.bytes)

    # What follows is blocking and runs in a worker thread.

    def _look(self, places: int) -> _Look:
        look = _Look([], set(), drained=True)
        running = list(self._running.values())
        own = {one.ticket.ticket_id for one in running}
        try:
            # With every look, for another file may have been put in place. It also makes one that is missing.
            self._tickets.recover(_now(), own)
            self._recovered = True
            may_run = self._budget.look()
            if time.monotonic() - self._told_at >= PROGRESS_S:
                self._told_at = time.monotonic()
                for one in running:
                    self._tickets.progress(one.ticket.ticket_id, one.rows)
            if running:
                look.cancel.update(self._tickets.cancel_requests())
            free = places - len(running) if may_run else 0
            while len(look.claimed) < free:
                ticket = self._tickets.claim(_now())
                if ticket is None:
                    break
                look.claimed.append(ticket)
            else:
                # While the kill switch is on nobody should wait for what is queued.
                look = look._replace(drained=not running and not (may_run and self._tickets.any_queued()))
            self._problem = None
        except StateError as error:
            if self._problem != str(error):
                log.warning("no query can be run: %s", error)
            self._problem = str(error)
            if self._tickets.kill_switch().on:
                look.cancel.update(own)
            self._look_at = time.monotonic() + STATE_RETRY_S
        return look

    def _kept(self, ticket: Ticket, answer: QueryAnswer) -> End:
        """Give the result its place. Raises ``OSError``."""
        path = self._artifacts.keep(ticket.ticket_id, answer.path)
        columns = orjson.dumps([{"name": name, "type": kind} for name, kind in answer.columns]).decode()
        sample = sample_json(answer.sample)
        result = QueryResult(columns, sample, answer.rows, answer.bytes, answer.truncated, artifact=True)
        return End("succeeded", result=result, path=path)

    def _finish(self, running: Running, end: End) -> None:
        """Log the end, and then tell it. Raises ``StateError``; the next call does the rest."""
        ticket = running.ticket
        shutil.rmtree(self._folder(ticket), ignore_errors=True)
        if end.status != "released" and not running.logged:
            seconds = time.monotonic() - running.begun
            self._put(partial(completed, self._origin, ticket, end, seconds))
            running.logged = True
            log.info("ticket %s (%s) %s after %.2f s", ticket.ticket_id, ticket.template, end.status, seconds)
        now = _now()
        if end.result is not None:
            if not self._tickets.succeed(ticket.ticket_id, end.result, now):
                self._artifacts.remove(ticket.ticket_id)  # it is nobody's
        elif end.status == "failed":
            self._tickets.fail(ticket.ticket_id, end.error or "", now)
        elif end.status == "cancelled":
            self._tickets.cancelled(ticket.ticket_id, now)
        else:
            self._tickets.release(ticket.ticket_id, now)

    def _put(self, make: Callable[[], list[Event]]) -> None:
        try:
            self._events.put(*make())
        except (OSError, QueueError) as error:
            log.warning("cannot log a query: %s", error)

    def _folder(self, ticket: Ticket) -> Path:
        return self._spool.work / f"query-{ticket.ticket_id}"


def _now() -> str:
    return timestamp(datetime.now(UTC))
