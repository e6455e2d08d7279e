"""get_context as a client sees it, in both eras: what was learnt is recalled at once, in order, as large as allowed."""

import logging
from typing import Any

import anyio
import pytest
from tests.queue_package.context_samples import fold, insight
from tests.server.server_samples import (
    EMPTY,
    ERAS,
    EVENT,
    HASH,
    PATIENCE_S,
    Connected,
    connected,
    learn,
    moment,
    recalled,
)

from snowledger_queue import ContextReader, ContextStore, Spool

pytestmark = pytest.mark.parametrize("mode", ERAS)

BAD_SIZES: list[object] = [511, 1_048_577, 0, -1, 2**70, True, False, 600.5, 600.0, "600", [600], {}]
BAD_PREFIXES: list[object] = ["", "x" * 256, 5, True, ["a"], {}]
BAD_CURSORS: list[object] = ["", "x", "ä", "\ud800", "WzEsMl0=", 5, True, ["a"], {}, "x" * 100_000]
BAD_ARGUMENTS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    *(({"max_bytes": size}, ("max_bytes: accepted is a whole number from 512 to 1048576",)) for size in BAD_SIZES),
    *(({"subject_prefix": prefix}, ("subject_prefix: accepted is text of 1 to 255",)) for prefix in BAD_PREFIXES),
    *(({"cursor": cursor}, ("cursor: ", "take it from next_cursor of the page before")) for cursor in BAD_CURSORS),
    ({"subject_prefix": "a\0"}, ("subject_prefix", "NUL")),
    ({"subject_prefix": "\ud800"}, ("subject_prefix", "lone surrogate")),
    ({"customer": "acme"}, ("customer", "unknown argument", "accepted are customer_id, max_bytes, subject_prefix")),
    ({"max_bytes": 512, "customer_id": "ü" * 255}, ("max_bytes: 512 is too small", "the least is")),
]


async def test_what_was_logged_is_in_the_very_next_answer(spool: Spool, mode: str) -> None:
    value = {"p95": [1.5, None, True, "ü\u2028\U0001f9ca"], "deep": {"": {}}}
    async with connected(spool, mode) as server:
        logged = await learn(server, "customer/ü", value, valid_from="2026-01-01", valid_to="2999-01-01")
        asked = await server.ok("log_event", {**EVENT, "link": "https://example.com/a"})
        context = await server.ok("get_context", {})
        [_, line] = server.events()
    [found] = context["insights"]
    assert found == {
        "subject": "customer/ü",
        "metric": "mrr_usd",
        "value": value,
        "query_hash": HASH,
        "verified": False,
        "recorded_at": found["recorded_at"],
        "valid_from": "2026-01-01T00:00:00.000000Z",
        "valid_to": "2999-01-01T00:00:00.000000Z",
        "insight_id": logged["event_id"],
    }
    assert context["activity_counts"] == [
        {"activity": "cdesk.insight_recorded", "last_24_h": 1, "last_7_d": 1},
        {"activity": "cdesk.user_asked", "last_24_h": 1, "last_7_d": 1},
    ]
    assert context["recent_events"] == [
        {
            "ts": asked["ts"],
            "event_id": asked["event_id"],
            "activity": "cdesk.user_asked",
            "link": "https://example.com/a",
            "feature_json": line["feature_json"],
        }
    ]
    assert context["tickets"] == []


async def test_every_answer_has_all_that_was_logged_before_it_by_any_server(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as first, connected(spool, mode) as second:
        for number in range(20):
            writer, reader = (first, second) if number % 2 else (second, first)
            await learn(writer, f"s/{number}", number)
            assert len(await recalled(reader)) == number + 1
            assert await recalled(writer) == await recalled(reader)


async def test_a_retry_with_the_same_idempotency_key_is_one_event(spool: Spool, mode: str) -> None:
    """Until it is loaded, the counts may hold it once for each call."""
    async with connected(spool, mode) as server:
        for attempt in range(1, 4):
            logged = await server.ok("log_event", {**EVENT, "idempotency_key": "k"})
            context = await server.ok("get_context", {})
            assert 1 <= context["activity_counts"][0]["last_7_d"] <= attempt
            assert [found["event_id"] for found in context["recent_events"]] == [logged["event_id"]]


async def test_a_correction_replaces_what_was_known(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        await learn(server, "a", 1)
        await learn(server, "a", 2, metric="churn")
        await learn(server, "a", 3)
        assert await recalled(server) == [("a", "mrr_usd", 3), ("a", "churn", 2)]


async def test_what_has_ended_or_not_begun_is_not_recalled(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        await learn(server, "corrected", "old")
        await learn(server, "corrected", "ended", valid_to=moment(-1))
        await learn(server, "planned", "now")
        await learn(server, "planned", "later", valid_from=moment(3600))
        assert await recalled(server) == [("planned", "mrr_usd", "now")]


async def test_an_insight_begins_and_ends_between_two_calls_without_anything_being_logged(
    spool: Spool, mode: str
) -> None:
    async with connected(spool, mode) as server:
        await learn(server, "a", "ends", valid_to=moment(0.5))
        await learn(server, "b", "begins", valid_from=moment(0.5))
        seen: list[list[str]] = []
        with anyio.fail_after(PATIENCE_S):
            while not seen or seen[-1] != ["begins"]:
                values = [value for _, _, value in await recalled(server)]
                if not seen or seen[-1] != values:
                    seen.append(values)
                await anyio.sleep(0.005)
    assert seen[0] == ["ends"]


async def test_verified_insights_come_first_then_the_newest(spool: Spool, mode: str, store: ContextStore) -> None:
    lines = [
        insight(number, number, subject=f"s/{number}", recorded_at=moment(-number), verified=number in {3, 5})
        for number in range(1, 7)
    ]
    fold(store, *lines, now=moment())
    async with connected(spool, mode) as server:
        await learn(server, "s/0", 0)
        assert [value for _, _, value in await recalled(server)] == [3, 5, 0, 1, 2, 4, 6]
        pages = await read_on(server, {"max_bytes": 1_000})
        assert [value for _, _, value in pages] == [3, 5, 0, 1, 2, 4, 6]


async def read_on(server: Connected, arguments: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """All insights, page by page; each page is checked."""
    found: list[tuple[str, str, Any]] = []
    cursor: dict[str, Any] = {}
    total = None
    while True:
        page = await server.ok("get_context", {**arguments, **cursor})
        assert page["insights"]
        if cursor:
            assert (page["activity_counts"], page["recent_events"]) == ([], [])
        found += [(insight["subject"], insight["metric"], insight["value"]) for insight in page["insights"]]
        total = total or len(found) + page["left_out"]["insights"]
        assert page["left_out"]["insights"] == total - len(found)
        if page["next_cursor"] is None:
            assert len(found) == total
            return found
        cursor = {"cursor": page["next_cursor"]}


async def test_all_insights_are_read_page_by_page_also_of_one_subject(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        for number in range(40):
            await learn(server, f"{'even' if number % 2 == 0 else 'odd'}/{number}", number)
        await server.ok("log_event", EVENT)
        whole = await server.ok("get_context", {"max_bytes": 100_000})
        assert whole["truncated"] is False
        assert [found["value"] for found in whole["insights"]] == list(range(39, -1, -1))
        assert await read_on(server, {"max_bytes": 2_000}) == await recalled(server, max_bytes=100_000)
        odd = [number for number in range(39, -1, -1) if number % 2]
        assert [value for _, _, value in await read_on(server, {"max_bytes": 2_000, "subject_prefix": "odd/"})] == odd
        assert [value for _, _, value in await recalled(server, subject_prefix="even/1")] == [18, 16, 14, 12, 10]
        assert [value for _, _, value in await recalled(server, subject_prefix="even/18")] == [18]
        for prefix in ("EVEN/", "%", "even_", "\\", "even/*"):
            assert await recalled(server, subject_prefix=prefix) == []


async def test_a_filtered_answer_holds_nothing_but_insights(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        await learn(server, "a/1", 1)
        await learn(server, "b/1", 2)
        await server.ok("log_event", EVENT)
        context = await server.ok("get_context", {"subject_prefix": "a/"})
    assert [found["value"] for found in context["insights"]] == [1]
    assert (context["activity_counts"], context["recent_events"]) == ([], [])
    assert context["left_out"] == EMPTY["left_out"]
    assert context["truncated"] is False


@pytest.mark.parametrize("max_bytes", [512, 900, 1_537, 4_000, 16_384, 50_000])
async def test_no_answer_is_larger_than_asked_for(spool: Spool, mode: str, max_bytes: int) -> None:
    async with connected(spool, mode) as server:
        for number in range(60):
            await learn(server, f"s/{number}", "ü\n" * (number * 10))
            await server.ok("log_event", {**EVENT, "feature_json": {"q": "ü" * number}})
        result = await server.client.call_tool("get_context", {"max_bytes": max_bytes})
        [content] = result.content
        assert len(content.text.encode()) <= max_bytes  # type: ignore[union-attr]
        assert result.structured_content is not None
        left_out = result.structured_content["left_out"]
        assert left_out["insights"] == 60 - len(result.structured_content["insights"])
        assert left_out["recent_events"] == 10 - len(result.structured_content["recent_events"])
        assert result.structured_content["truncated"] is any(left_out.values())


async def test_a_wrong_argument_is_named_with_what_is_accepted(spool: Spool, mode: str) -> None:
    async with connected(spool, mode, "ü" * 255) as server:
        for arguments, words in BAD_ARGUMENTS:
            message, retryable = await server.refused("get_context", arguments)
            assert not retryable
            assert message.endswith("Correct the argument and call again.")
            assert "stored" not in message
            assert [word for word in words if word not in message] == [], message
            assert message.isprintable()
            assert len(message) < 300


async def test_null_is_as_good_as_leaving_an_argument_out(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        await learn(server, "a", 1)
        arguments = dict.fromkeys(("customer_id", "max_bytes", "subject_prefix", "cursor"))
        assert await server.ok("get_context", arguments) == await server.ok("get_context", {})


async def test_a_defect_shows_a_reference_and_speaks_of_reading(
    spool: Spool, mode: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("password=hunter2")

    monkeypatch.setattr(ContextReader, "read", broken)
    async with connected(spool, mode) as server:
        with caplog.at_level(logging.ERROR, "snowledger_server"):
            message, retryable = await server.refused("get_context", {})
        assert not retryable
        assert "stored" not in message
        assert "idempotency" not in message
        assert "hunter2" not in message
        assert message.split("reference ")[1].split()[0] in caplog.text
        monkeypatch.undo()
        await server.ok("get_context", {})


async def test_a_model_is_told_to_call_it_at_the_start_of_a_conversation(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        [tool] = [tool for tool in (await server.client.list_tools()).tools if tool.name == "get_context"]
        assert "get_context" in (server.client.instructions or "")
    assert tool.description is not None
    assert "start of a conversation" in tool.description
    assert tool.input_schema["required"] == []
    assert tool.output_schema is not None
    described = tool.output_schema["properties"]
    assert set(described) == {*EMPTY, "as_of", "age_ms", "stale"} == set(tool.output_schema["required"])
