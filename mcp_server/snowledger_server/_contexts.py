"""Contexts from memory: encoded answers that are kept until something changes what they say."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio
from anyio import to_thread
from cachetools import TTLCache

from snowledger_queue import ContextReader, QueueTail, timestamp

from ._context import SMALLEST_INSIGHT, Document, make_document
from ._errors import TimeLimitError
from ._tool import CALL_S

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from snowledger_queue import CustomerContext, Position, Queued, Spool

    from ._encoded_answers import Answer

log = logging.getLogger(__name__)

CACHE_BYTES = 16 * 1024 * 1024
"""Some 450 answers of the default size, which are kept twice, as content and as text; a desktop server uses one, a
team's some hundred."""

CACHE_S = 300.0
"""Frees the memory of answers that nobody asks for any more; what changes is noticed at once."""

INLINE_BYTES = 64 * 1024
"""So much of the queue is read in the event loop, in 0.5 ms; to a worker thread and back takes 0.1 ms alone."""

CLOCK_S = 5.0
"""A comparison that lies further in the future was made under a wrong clock: its age is not known."""

REQUEST_S = 1.0
"""Between two requests to refresh: an uploader that runs answers one within 0.2 s."""

ENTRY_BYTES = 1_500
"""What an entry of the cache takes besides its answer and the texts of its query."""


class ContextQuery(NamedTuple):
    """What a client wants to know."""

    customer: str
    max_bytes: int
    subject_prefix: str | None = None
    after: Position | None = None
    allowed: frozenset[str] | None = None
    """In the caller's own context, whose tickets are listed: the others it may read. It is part of what is kept, for
    who may read fewer is not told of all tickets. None in another's context: its tickets are not the caller's."""

    @property
    def page(self) -> bool:
        """Whether insights alone are wanted."""
        return self.subject_prefix is not None or self.after is not None

    @property
    def size(self) -> int:
        """Bytes of its texts, which a client may make as long as its line, and of ``allowed``."""
        # A set of each request's own, but the texts in it are the token's. However large, an entry must fit.
        return min(sys.getsizeof(self.allowed), CACHE_BYTES // 16) + sum(
            map(sys.getsizeof, (self.customer, self.subject_prefix, *(self.after or ())))
        )


class _Kept(NamedTuple):
    """An answer, and until when it is right."""

    document: Document
    as_of: float | None
    """Seconds since 1970, as ``valid_until``; None when it is not known."""
    valid_until: float
    mark: Hashable
    version: int
    size: int
    """Bytes that it takes in the cache."""


class Contexts:
    """What is known about customers, from ``state.db`` and the queue. Made by ``open_contexts``."""

    def __init__(self, spool: Spool, max_age_s: float) -> None:
        self._spool = spool
        self._max_age_s = max_age_s
        self._tail = QueueTail(spool)
        self._reader = ContextReader(spool)
        self._kept: TTLCache[ContextQuery, _Kept] = TTLCache(CACHE_BYTES, CACHE_S, getsizeof=lambda kept: kept.size)
        self._one = anyio.Lock()
        self._requested_at = float("-inf")
        self._cannot_request = False
        self.hits = self.misses = 0
        """Calls whose answer, or all that it is made of, was in memory, and others."""

    async def get(self, query: ContextQuery) -> Answer:
        """The customer's context, whose content has at most ``max_bytes`` bytes.

        What any server on this machine has acknowledged before the call is in it. A stale one is answered as it is,
        and a refresh is asked for.

        Raises:
            InvalidArgumentError: ``max_bytes`` is too small.
            TimeLimitError: another reader does not come to an end.
        """
        kept = None if self._one.locked() else self._at_hand(query)
        if kept is None:
            self.misses += 1
            kept = await self._waited_for(query)
        else:
            self.hits += 1
        return self._dated(kept)

    async def _waited_for(self, query: ContextQuery) -> _Kept:
        with anyio.move_on_after(CALL_S):
            async with self._one:
                # Of many who wait for the same the first one has read it for all.
                kept = self._at_hand(query)
                if kept is None:
                    kept = await to_thread.run_sync(self._read, query)
                return kept
        raise TimeLimitError(CALL_S)

    def close(self) -> None:
        """Let go of ``state.db``."""
        self._reader.close()

    def _at_hand(self, query: ContextQuery) -> _Kept | None:
        """What can be had in the event loop; while nobody else reads."""
        # The queue first, state.db second: a segment that is gone from the one is in the other by then.
        pending = self._tail.pending()
        if pending > INLINE_BYTES:
            return None
        if pending:
            self._tail.read()
        mark = self._reader.mark()
        kept = self._good(query, mark)
        if kept is None:
            # Who has just logged something asks for a context of which the rest is as it was.
            context = self._reader.at_hand(*self._arguments(query), mark)
            kept = None if context is None else self._keep(query, context, mark)
        return kept

    def _good(self, query: ContextQuery, mark: Hashable) -> _Kept | None:
        kept: _Kept | None = self._kept.get(query)
        if kept is None:
            return None
        good = (
            kept.mark == mark and kept.version == self._tail.version(query.customer) and time.time() < kept.valid_until
        )
        return kept if good else None

    def _read(self, query: ContextQuery) -> _Kept:
        """Catch up with the queue and put the answer together. In a worker thread, one at a time."""
        if self._tail.pending():
            self._tail.read()
        # Before the reading: what changes meanwhile must make this answer look old.
        mark = self._reader.mark()
        # Another task that waited for the same may have read it.
        return self._good(query, mark) or self._keep(query, self._reader.read(*self._arguments(query), mark), mark)

    def _arguments(
        self, query: ContextQuery
    ) -> tuple[str, Callable[[frozenset[str]], Queued], str, int, str | None, Position | None, frozenset[str] | None]:
        """What a reader is told."""
        return (
            query.customer,
            partial(self._tail.queued, query.customer),
            timestamp(datetime.now(UTC)),
            query.max_bytes // SMALLEST_INSIGHT + 1,
            query.subject_prefix,
            query.after,
            query.allowed,
        )

    def _keep(self, query: ContextQuery, context: CustomerContext, mark: Hashable) -> _Kept:
        if query.page:
            context = replace(context, tickets=(), ticket_count=0)
        before: _Kept | None = self._kept.get(query)
        document = make_document(
            query.customer, context, query.max_bytes, page=query.page, before=before and before.document
        )
        kept = self._kept[query] = _Kept(
            document,
            None if context.as_of is None else datetime.fromisoformat(context.as_of).timestamp(),
            datetime.fromisoformat(context.valid_until).timestamp(),
            mark,
            self._tail.version(query.customer),
            ENTRY_BYTES + query.size + document.size,
        )
        return kept

    def _dated(self, kept: _Kept) -> Answer:
        age_s = None if kept.as_of is None else time.time() - kept.as_of
        stale = age_s is None or not -CLOCK_S <= age_s <= self._max_age_s
        age_ms = None if age_s is None else max(0, round(age_s * 1000))
        if stale:
            self._request_refresh()
        return kept.document.answer(age_ms, stale=stale)

    def _request_refresh(self) -> None:
        if time.monotonic() - self._requested_at < REQUEST_S:
            return
        self._requested_at = time.monotonic()
        try:
            self._spool.request_refresh()
        except OSError as error:
            if not self._cannot_request:
                log.warning("cannot ask for a refresh of the contexts: %s", error)
            self._cannot_request = True
        else:
            self._cannot_request = False


@contextmanager
def open_contexts(spool: Spool, max_age_s: float) -> Iterator[Contexts]:
    """The contexts of a spool; older ones than ``max_age_s`` are stale."""
    contexts = Contexts(spool, max_age_s)
    try:
        yield contexts
    finally:
        contexts.close()
