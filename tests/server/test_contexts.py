"""The cache of contexts: bounded, read by one task at a time, and never in the event loop for longer than a moment."""

import gc
import threading
import time
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import anyio
import orjson
import pytest
from tests.queue_package.context_samples import ORIGIN, changes, event

from snowledger_queue import (
    ContextReader,
    ContextStore,
    Position,
    QueueTail,
    QueueWriter,
    Spool,
    new_event,
    open_writer,
    timestamp,
)
from snowledger_queue._customer_state import read_state
from snowledger_server import ContextQuery, Contexts, open_contexts
from snowledger_server import _contexts as module

ACME = ContextQuery("acme", 16_384)


def customer(number: int) -> ContextQuery:
    return ContextQuery(f"customer-{number:05d}", 512)


async def count(contexts: Contexts, query: ContextQuery = ACME) -> int:
    """How many events the context tells of."""
    counts = orjson.loads((await contexts.get(query)).content)["activity_counts"]
    return sum(found["last_7_d"] for found in counts)


async def log(writer: QueueWriter, customer: str = "acme", **features: object) -> None:
    await writer.append([new_event(ORIGIN, activity="cdesk.a", customer=customer, feature_json=features)])


async def test_over_many_customers_the_cache_stays_below_its_bound(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = 512 * 1024
    monkeypatch.setattr(module, "CACHE_BYTES", bound)
    with open_contexts(spool, 300) as contexts:
        await contexts.get(ACME)
        tracemalloc.start()
        try:
            begun, _ = tracemalloc.get_traced_memory()
            for number in range(1_500):
                await contexts.get(customer(number))
                assert contexts._kept.currsize <= bound
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - begun
        finally:
            tracemalloc.stop()
        assert 100 < len(contexts._kept) < 1_500
        # And what the reader keeps of 128 customers, of whom there is next to nothing here: 2 KB each.
        assert grown < bound + 256 * 1024, "what an entry takes is reckoned with"
        before = len(contexts._kept)
        # What a client sends counts as well as what it gets.
        for number in range(20):
            await contexts.get(ContextQuery("acme", 512, after=Position(False, "x" * 50_000, f"{number}" * 50_000)))
            assert contexts._kept.currsize <= bound
        assert len(contexts._kept) < before


async def test_a_backlog_is_not_read_in_the_event_loop(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    read = QueueTail.read

    def noted(self: QueueTail) -> None:
        threads.append(threading.get_ident())
        read(self)

    monkeypatch.setattr(QueueTail, "read", noted)
    async with open_writer(spool) as writer:
        with open_contexts(spool, 300) as contexts:
            await log(writer)
            assert await count(contexts) == 1
            await log(writer)
            assert await count(contexts) == 2
            assert threading.get_ident() in threads, "a few lines are not worth a thread"
            threads.clear()
            for _ in range(2):
                await log(writer, text="x" * module.INLINE_BYTES)
            assert await count(contexts) == 4
            assert threads
            assert threading.get_ident() not in threads


async def test_while_one_call_reads_no_other_touches_the_tail_or_the_state(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    using: list[str] = []
    overlaps: list[list[str]] = []

    def guard(owner: type, name: str) -> None:
        method = getattr(owner, name)

        def guarded(self: object, *arguments: Any) -> Any:
            using.append(f"{owner.__name__}.{name}")
            # The reader asks the tail for what is queued, in the same thread.
            if len(using) > 1 and using != ["ContextReader.read", "QueueTail.queued"]:
                overlaps.append(list(using))
            time.sleep(0.0005)  # so that two uses that overlap are noticed
            try:
                return method(self, *arguments)
            finally:
                using.remove(f"{owner.__name__}.{name}")

        monkeypatch.setattr(owner, name, guarded)

    guard(ContextReader, "read")
    for name in ("pending", "read", "version", "queued"):
        guard(QueueTail, name)

    async def call(number: int) -> None:
        for round_number in range(10):
            await log(writer, f"customer-{number:05d}", text="x" * (module.INLINE_BYTES if number == 0 else 1))
            assert await count(contexts, customer(number)) == round_number + 1
            for other in range(4):
                await contexts.get(customer(other))

    async with open_writer(spool) as writer:
        with open_contexts(spool, 300) as contexts:
            async with anyio.create_task_group() as tasks:
                for number in range(4):
                    tasks.start_soon(call, number)
    assert overlaps == []


async def test_a_warm_answer_needs_no_thread_and_no_switch_to_another_task(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_contexts(spool, 300) as contexts:
        first = await contexts.get(ACME)

        def refuse(*_arguments: object) -> None:
            raise AssertionError("a thread")

        monkeypatch.setattr(anyio.to_thread, "run_sync", refuse)
        call = contexts.get(ACME)
        with pytest.raises(StopIteration) as done:
            call.send(None)  # it never waits
        assert done.value.value == first


async def test_a_call_that_is_cancelled_while_it_reads_leaves_the_contexts_in_order(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()
    read = ContextReader.read

    def slow(self: ContextReader, *arguments: Any) -> Any:
        reading.set()
        assert go_on.wait(20)
        return read(self, *arguments)

    monkeypatch.setattr(ContextReader, "read", slow)
    with open_contexts(spool, 300) as contexts:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(contexts.get, ACME)
            await anyio.to_thread.run_sync(reading.wait, 20)
            tasks.cancel_scope.cancel()
            go_on.set()
        with anyio.fail_after(20):
            assert await count(contexts) == 0


async def test_a_segment_that_goes_after_its_fold_is_neither_lost_nor_counted_twice(spool: Spool) -> None:
    """The uploader folds, then deletes: each answer between has every event once."""
    now = timestamp(datetime.now(UTC))
    lines = [event(number, now) for number in range(1, 6)]
    path = spool.queue / "1763698847123-0123456789ab-00000001-5.ndjson"
    path.write_bytes(b"".join(lines))
    store = ContextStore.open(spool)
    with open_contexts(spool, 300) as contexts:
        assert await count(contexts) == 5
        store.fold(changes(lines), now)
        store.confirm(now, [spool.sealed_segments()[0].name.stem])
        assert await count(contexts) == 5
        path.unlink()
        assert await count(contexts) == 5
    store.close()


async def test_what_is_folded_while_an_answer_is_put_together_is_in_the_next(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timestamp(datetime.now(UTC))
    store = ContextStore.open(spool)

    def overtaken(*arguments: Any) -> Any:
        state = read_state(*arguments)
        store.fold(changes([event(1, now)]), now)
        monkeypatch.undo()
        return state

    with open_contexts(spool, 300) as contexts:
        monkeypatch.setattr("snowledger_queue._context_reader.read_state", overtaken)
        assert [await count(contexts), await count(contexts)] == [0, 1], "the first time, in a thread"
        store.confirm(now, [])
        monkeypatch.setattr("snowledger_queue._context_reader.read_state", overtaken)
        assert [await count(contexts), await count(contexts)] == [1, 2], "and again, in the event loop"
    store.close()
