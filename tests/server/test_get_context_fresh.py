"""How fresh the answers of get_context are: what uploaders fold, what is kept, what is stale, what is damaged."""

from contextlib import closing
from typing import Any

import anyio
import pytest
from tests.queue_package.context_samples import fold, insight
from tests.server.server_samples import EMPTY, ERAS, EVENT, PATIENCE_S, connected, learn, moment, recalled

from snowledger_queue import ContextReader, ContextStore, Spool
from snowledger_server._context import make_document

pytestmark = pytest.mark.parametrize("mode", ERAS)


async def test_what_an_uploader_folds_is_in_the_very_next_answer(spool: Spool, mode: str, store: ContextStore) -> None:
    async with connected(spool, mode) as server:
        for number in range(1, 6):
            fold(store, insight(number, number, recorded_at=moment()), now=moment())
            assert [value for _, _, value in await recalled(server)] == [number]
            store.confirm(moment(), [])
            assert (await server.ok("get_context", {}))["stale"] is False


async def test_an_answer_is_put_together_once_and_kept(
    spool: Spool, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = reads = 0
    read = ContextReader.read

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal made
        made += 1
        return make_document(*arguments, **options)

    def counted_read(self: ContextReader, *arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return read(self, *arguments)

    monkeypatch.setattr("snowledger_server._contexts.make_document", counted)
    monkeypatch.setattr(ContextReader, "read", counted_read)
    async with connected(spool, mode, "beta") as server:
        await learn(server, "a", 1)
        contexts = [await server.ok("get_context", {}) for _ in range(5)]
        assert made == 1
        assert all(context == contexts[0] for context in contexts)
        for arguments in ({"max_bytes": 600}, {"subject_prefix": "a"}, {"customer_id": "beta"}):
            for _ in range(3):
                await server.ok("get_context", arguments)
        assert made == 4
        await server.ok("log_event", {**EVENT, "customer_id": "beta"})
        await server.ok("get_context", {})
        assert made == 4, "another customer's event changes nothing"
        beta = await server.ok("get_context", {"customer_id": "beta"})
        assert [count["activity"] for count in beta["activity_counts"]] == [EVENT["activity"]]
        assert made == 5
        assert reads == 2, "state.db is read once for each customer, until it changes"


async def test_a_customer_of_whom_nothing_is_known_has_an_empty_context(
    spool: Spool, mode: str, store: ContextStore
) -> None:
    as_of = moment()
    fold(store, insight(1, 1, customer="other", recorded_at=as_of), now=as_of)
    store.confirm(as_of, [])
    async with connected(spool, mode, "beta") as server:
        for customer in ("acme", "beta"):
            context = await server.ok("get_context", {"customer_id": customer})
            assert 0 <= context.pop("age_ms") < PATIENCE_S * 1000
            assert context == {**EMPTY, "customer": customer, "as_of": as_of, "stale": False}


async def test_what_was_never_compared_is_stale_and_a_refresh_is_asked_for_once_a_second(
    spool: Spool, mode: str
) -> None:
    async with connected(spool, mode) as server:
        begun = anyio.current_time()
        context = await server.ok("get_context", {})
        assert (context["as_of"], context["age_ms"], context["stale"]) == (None, None, True)
        assert spool.take_refresh_request()
        requests = 0
        with anyio.fail_after(PATIENCE_S):
            while not requests:
                assert (await server.ok("get_context", {}))["stale"] is True
                requests += spool.take_refresh_request()
                await anyio.sleep(0.005)
        assert anyio.current_time() - begun > 0.9


async def test_an_old_context_is_served_as_stale_until_it_was_refreshed(
    spool: Spool, mode: str, store: ContextStore
) -> None:
    fold(store, insight(1, 1, recorded_at=moment(-60)), now=moment())
    async with connected(spool, mode, max_age_s=60) as server:
        await server.ok("get_context", {})
        spool.take_refresh_request()
        store.confirm(moment(-59), [])
        context = await server.ok("get_context", {})
        assert context["stale"] is False
        assert 59_000 <= context["age_ms"] <= 60_000
        assert not spool.refresh_request.exists()
        with anyio.fail_after(PATIENCE_S):
            while not context["stale"]:
                await anyio.sleep(0.01)
                context = await server.ok("get_context", {})
        assert context["age_ms"] >= 60_000
        assert [found["value"] for found in context["insights"]] == [1]
        assert spool.take_refresh_request()
        store.confirm(moment(), [])
        context = await server.ok("get_context", {})
        assert context["stale"] is False
        assert not spool.refresh_request.exists()


@pytest.mark.parametrize(("ahead_s", "stale"), [(3, False), (3600, True)])
async def test_a_comparison_in_the_future_has_no_negative_age_and_is_not_believed_for_long(
    spool: Spool, mode: str, store: ContextStore, ahead_s: int, stale: bool
) -> None:
    store.confirm(moment(ahead_s), [])
    async with connected(spool, mode) as server:
        context = await server.ok("get_context", {})
    assert (context["age_ms"], context["stale"]) == (0, stale)


async def test_a_refresh_that_cannot_be_asked_for_is_logged_once(
    spool: Spool, mode: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.refresh_request.symlink_to(spool.refresh_request)
    monkeypatch.setattr("snowledger_server._contexts.REQUEST_S", 0)
    async with connected(spool, mode) as server:
        for _ in range(3):
            assert (await server.ok("get_context", {}))["stale"] is True
    complaints = [record for record in caplog.records if "cannot ask for a refresh" in record.getMessage()]
    assert len(complaints) == 1


@pytest.mark.parametrize("garbage", [b"no database at all\n" * 4096, b"", b"SQLite format 3\0" + b"\xff" * 5000])
async def test_a_state_that_is_damaged_under_the_server_fails_no_call(
    spool: Spool, mode: str, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = ContextStore.open(spool)
    line = insight(1, "folded", subject="f", recorded_at=moment())
    fold(store, line, now=moment())
    store.confirm(moment(), [])
    async with connected(spool, mode) as server:
        await learn(server, "q", "queued")
        assert await recalled(server) == [("q", "mrr_usd", "queued"), ("f", "mrr_usd", "folded")]
        store.close()
        spool.state.write_bytes(garbage)
        for number in range(5):
            await learn(server, "q", number)
            context = await server.ok("get_context", {})
            assert ("q", number) in [(found["subject"], found["value"]) for found in context["insights"]]
        with closing(ContextStore.open(spool)) as anew:
            fold(anew, line, now=moment())
            anew.confirm(moment(), [])
        context = await server.ok("get_context", {})
        assert [found["value"] for found in context["insights"]] == [4, "folded"]
        assert context["stale"] is False
    assert "Traceback" not in caplog.text
