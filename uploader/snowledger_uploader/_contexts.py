"""Bringing ``state.db`` up to date with the warehouse, which must never keep events from being loaded."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio
from anyio import to_thread

from snowledger_queue import (
    OPERATIONAL_CUSTOMER,
    ContextStore,
    Folded,
    QueueError,
    StateError,
    live_servers,
    new_event,
    timestamp,
)

from ._breaker import Breaker
from ._errors import UploaderError, UploadStoppedError
from ._own_events import OwnEvents

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from snowledger_queue import Changes, Origin, Spool

    from ._warehouse import Warehouse

log = logging.getLogger(__name__)

RETRY_S, MAX_RETRY_S = 5.0, 60.0
"""How soon a refresh that failed is tried again, first and at most; a load or a request tries it at once.
With Snowflake, a failed login leaves some 16 KB in the connector."""

FOLD_LINES = 20_000
"""Lines folded in one transaction: what is read of them takes some 20 MB, and not the memory of a whole batch twice."""

PROGRESS_S = 10.0
"""How often a long refresh says in the log how far it is."""


NOTHING = Folded(0, 0, 0)


class _Refreshed(NamedTuple):
    """What a refresh brought."""

    folded: Folded
    rebuilt: bool
    """It began at the warehouse's start, though there had been contexts before."""


class Contexts:
    """Folds what is new in the warehouse into ``state.db``. One task uses it at a time."""

    def __init__(
        self,
        spool: Spool,
        warehouse: Warehouse,
        origin: Origin,
        stop: anyio.Event,
        interval_s: float | None,
        breaker: Breaker | None = None,
    ) -> None:
        """``stop`` ends a long refresh early; ``interval_s`` is how often ``due`` asks for one, None for never."""
        self._spool = spool
        self._warehouse = warehouse
        self._origin = origin
        self._stop = stop
        self._interval_s = interval_s
        self._breaker = breaker or Breaker()
        self._store: ContextStore | None = None
        self.events = OwnEvents(spool)
        """Where it logs what it did."""
        self._refreshed_at = float("-inf")
        self.as_of: str | None = None
        """Up to when the contexts hold what the warehouse holds; None until a refresh succeeded."""
        self.failure: Exception | None = None
        """Why the last refresh failed; the next one does what it left."""
        self._failures = 0
        self.partly: Callable[[], Sequence[str]] = tuple
        """Stems of queued segments of which some events are in the warehouse. They count as covered, so that nothing
        counts twice: what is not loaded of them is not in the contexts until it is."""

    @property
    def problem(self) -> str | None:
        """The same in words."""
        return None if self.failure is None else str(self.failure)

    @property
    def behind(self) -> bool:
        """Whether the last refresh failed."""
        return self.failure is not None

    def due(self) -> str | None:
        """The reason for which an idle uploader should refresh now; None when there is none. Takes microseconds."""
        if not self._breaker.ready():
            return None  # who asked for it is served when the warehouse is back
        if self._requested():
            return "request"
        waited_s = time.monotonic() - self._refreshed_at
        if self.behind:
            # The exponent is bounded, as in ``Delivery``.
            pause_s = min(RETRY_S * 2 ** min(self._failures - 1, 20), MAX_RETRY_S)
            return "interval" if waited_s >= pause_s else None
        first = self._refreshed_at < 0
        overdue = self._interval_s is not None and waited_s >= self._interval_s and live_servers(self._spool) > 0
        return "interval" if first or overdue else None

    async def refresh(self, reason: str, drained: Sequence[str] = (), *, own: bool = False) -> None:
        """Fold what is new; ``drained`` are the stems of segments that it covers, ``own`` of own events. Never raises.

        What went wrong is logged and in ``problem``. A refresh that changed a context leaves an event
        ``cdesk.context_refreshed``, which goes with a later batch; as that is nobody's context, no further one follows.
        """
        self._requested()  # whoever asked before now is answered by this
        started = time.monotonic()
        try:
            folded, rebuilt = await self._catch_up(reason, drained, own=own)
        except Exception as error:  # whatever it is, events must be loaded
            expected = isinstance(error, (QueueError, UploaderError, OSError))
            if self.problem != str(error):
                log.warning("contexts are not up to date: %s", error, exc_info=None if expected else error)
            self.failure = error
            self._failures += 1
            return
        finally:
            self._refreshed_at = time.monotonic()
        if self.behind:
            log.info("contexts are up to date again")
        self.failure = None
        self._failures = 0
        if folded.customers:
            seconds = time.monotonic() - started
            await to_thread.run_sync(self._record, "rebuild" if rebuilt else reason, folded, seconds)

    async def close(self) -> None:
        """Let go of ``state.db``; a refresh may follow."""
        store, self._store = self._store, None
        if store is not None:
            with anyio.CancelScope(shield=True), suppress(StateError):
                await to_thread.run_sync(store.close)

    async def _catch_up(self, reason: str, drained: Sequence[str], *, own: bool) -> _Refreshed:
        """Fold all that is new. A damaged ``state.db`` is made anew, once."""
        try:
            with self._breaker.attempt(own=own) as answered:
                return await self._fold_new(reason, drained, answered)
        except StateError as error:
            await self.close()
            if error.transient:
                raise
        with self._breaker.attempt(own=own) as answered:
            return await self._fold_new("rebuild", drained, answered)

    async def _fold_new(self, reason: str, drained: Sequence[str], answered: Callable[[], None]) -> _Refreshed:
        as_of = timestamp(datetime.now(UTC))
        await self._warehouse.open()
        # The contexts of a new ledger are not rebuilt by its first load.
        had_contexts = self._store is not None or reason != "load"
        store, cursor = await to_thread.run_sync(self._opened)
        rebuilt = cursor is None and had_contexts
        total = NOTHING
        said_at = time.monotonic()
        while True:
            changes = await self._warehouse.changes(cursor)
            answered()
            covered = (*drained, *self.partly())
            rebuilt = rebuilt or changes.reset
            work = partial(_fold, store, cursor, changes, as_of, covered)
            total = _sum(total, await to_thread.run_sync(work))
            cursor = changes.cursor
            if not changes.more:
                break
            if self._stop.is_set():
                raise UploadStoppedError("stopped before the contexts were up to date")
            if time.monotonic() - said_at >= PROGRESS_S:
                said_at = time.monotonic()
                log.info("contexts: still reading the warehouse, %d insights so far", total.atoms)
        self.as_of = as_of
        return _Refreshed(total, rebuilt)

    def _requested(self) -> bool:
        try:
            return self._spool.take_refresh_request()
        except OSError:
            return False  # a folder, say: nobody's request

    # What follows runs in a worker thread.

    def _opened(self) -> tuple[ContextStore, str | None]:
        """The store of the file that is there now, and its cursor. Raises ``StateError``."""
        if self._store is not None and not self._store.in_place():
            self._store.close()
            log.warning("%s was deleted or replaced", self._spool.state)
            self._store = None
        if self._store is None:
            self._store = ContextStore.open(self._spool)
        return self._store, self._store.cursor

    def _record(self, reason: str, folded: Folded, seconds: float) -> None:
        """Log the event ``cdesk.context_refreshed``."""
        features = {"reason": reason, **folded._asdict(), "ms": round(seconds * 1000)}
        log.info("contexts: %(customers)d customers, %(events)d events, %(atoms)d insights (%(reason)s)", features)
        event = new_event(
            self._origin, activity="cdesk.context_refreshed", customer=OPERATIONAL_CUSTOMER, feature_json=features
        )
        try:
            self.events.put(event)
        except OSError as error:
            log.warning("cannot log that contexts were refreshed: %s", error)


def _fold(store: ContextStore, cursor: str | None, changes: Changes, as_of: str, drained: Sequence[str]) -> Folded:
    """Fold the changes, some of their lines at a time, and confirm when they are the last. Raises ``StateError``.

    A line that is folded again changes nothing, so the last part alone has the counts and moves the cursor.
    """
    now = timestamp(datetime.now(UTC))
    before = "" if changes.reset or cursor is None else cursor
    total = NOTHING
    for start in range(0, max(len(changes.lines), 1), FOLD_LINES):
        part = changes._replace(lines=changes.lines[start : start + FOLD_LINES], reset=changes.reset and start == 0)
        if start + FOLD_LINES < len(changes.lines):
            part = part._replace(cursor=before, counts=[])
        last = not changes.more and start + FOLD_LINES >= len(changes.lines)
        total = _sum(total, store.fold(part, now, drained if last else ()))
    if not changes.more:
        store.confirm(as_of, ())
    return total


def _sum(one: Folded, other: Folded) -> Folded:
    return Folded(one.customers + other.customers, one.events + other.events, one.atoms + other.atoms)
