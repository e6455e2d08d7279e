"""The tools as a client sees them, in both eras of the protocol: answers, refusals, isolation, failures."""

import errno
import logging
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from tests.server.server_samples import ERAS, EVENT, HASH, INSIGHT, TOOLS, connected
from tests.uploader.uploader_samples import ORIGIN, loaded_lines

from snowledger_queue import OsFilesystem, QueueWriter, Spool, UncertainWriteError, open_spool
from snowledger_uploader import Delivery, Drain, DuckDBWarehouse

pytestmark = pytest.mark.parametrize("mode", ERAS)

DEEP: dict[str, Any] = {}
for _ in range(80):
    DEEP = {"a": DEEP}

BAD_EVENTS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"activity": "cdesk.x"}, ("feature_json", "missing", "required are activity, feature_json")),
    ({"feature_json": {}}, ("activity", "missing")),
    ({}, ("activity", "missing")),
    ({**EVENT, "activity": None}, ("activity", "missing")),
    ({**EVENT, "feature_json": None}, ("feature_json", "missing")),
    ({**EVENT, "colour": "red"}, ("colour", "unknown argument", "accepted are activity, feature_json, link")),
    ({**EVENT, "a\nb\x1b[31m": 1}, ("unknown argument", "\\n")),
    ({**EVENT, "activity": "sales.order"}, ("activity", "cdesk.", "cdesk.user_asked")),
    ({**EVENT, "activity": "cdesk."}, ("activity", "accepted")),
    ({**EVENT, "activity": "cdesk.A"}, ("activity", "lower-case")),
    ({**EVENT, "activity": "cdesk.a\n"}, ("activity", "accepted")),
    ({**EVENT, "activity": "cdesk." + "a" * 200}, ("activity", "128")),
    ({**EVENT, "activity": 5}, ("activity", "must be a string", "int")),
    ({**EVENT, "activity": ["cdesk.a"]}, ("activity", "must be a string", "list")),
    ({**EVENT, "activity": "cdesk.batch_loaded"}, ("activity", "snowledger itself", "another name")),
    ({**EVENT, "activity": "cdesk.kill_switch_changed"}, ("activity", "snowledger itself")),
    ({**EVENT, "activity": "cdesk.insight_recorded"}, ("activity", "log_insight")),
    ({**EVENT, "feature_json": []}, ("feature_json", "must be a JSON object", "list")),
    ({**EVENT, "feature_json": "{}"}, ("feature_json", "must be a JSON object", "str")),
    ({**EVENT, "feature_json": {"a": 2**53}}, ("feature_json.a", "9007199254740991", "send a string")),
    ({**EVENT, "feature_json": {"a": [1, 10**30]}}, ("feature_json.a[1]", "9007199254740991")),
    ({**EVENT, "feature_json": {"a": "\ud800"}}, ("feature_json.a", "lone surrogate", "D800")),
    ({**EVENT, "feature_json": {"a": "x\0y"}}, ("feature_json.a", "NUL")),
    ({**EVENT, "feature_json": DEEP}, ("feature_json", "64 levels")),
    ({**EVENT, "feature_json": {"a": "x" * 262_144}}, ("feature_json", "262144", "256 KiB", "link")),
    ({**EVENT, "link": "not a url"}, ("link", "https://")),
    ({**EVENT, "link": 5}, ("link", "string")),
    ({**EVENT, "link": "https://x/" + "y" * 2048}, ("link", "2048")),
    ({**EVENT, "revenue_impact": "1.5"}, ("revenue_impact", "must be a number", "str")),
    ({**EVENT, "revenue_impact": True}, ("revenue_impact", "must be a number", "bool")),
    ({**EVENT, "revenue_impact": 10**400}, ("revenue_impact", "9007199254740991")),
    ({**EVENT, "idempotency_key": ""}, ("idempotency_key", "1 to 255")),
    ({**EVENT, "idempotency_key": "k" * 256}, ("idempotency_key", "1 to 255")),
    ({**EVENT, "idempotency_key": 7}, ("idempotency_key", "string")),
    ({**EVENT, "idempotency_key": "\ud800"}, ("idempotency_key", "lone surrogate")),
]
BAD_INSIGHTS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({name: value for name, value in INSIGHT.items() if name != "value"}, ("value", "missing")),
    ({**INSIGHT, "subject": None}, ("subject", "missing")),
    ({**INSIGHT, "subject": " "}, ("subject", "1 to 255")),
    ({**INSIGHT, "metric": "m" * 256}, ("metric", "1 to 255")),
    ({**INSIGHT, "metric": {}}, ("metric", "text")),
    ({**INSIGHT, "subject": "a\0"}, ("subject", "NUL")),
    ({**INSIGHT, "provenance_query_hash": HASH.upper()}, ("provenance_query_hash", "64 lower-case hex")),
    ({**INSIGHT, "provenance_query_hash": HASH + "\n"}, ("provenance_query_hash", "64 lower-case hex")),
    ({**INSIGHT, "provenance_query_hash": 5}, ("provenance_query_hash", "64")),
    ({**INSIGHT, "value": "x" * 262_144}, ("256 KiB",)),
    ({**INSIGHT, "valid_from": "yesterday"}, ("valid_from", "ISO 8601")),
    ({**INSIGHT, "valid_to": 20261121}, ("valid_to", "ISO 8601")),
    ({**INSIGHT, "valid_from": "2026-11-02", "valid_to": "2026-11-01"}, ("valid_to", "later than valid_from")),
    ({**INSIGHT, "valid_from": "2026-11-02", "valid_to": "2026-11-02T01:00:00+01:00"}, ("valid_to", "later")),
    ({**INSIGHT, "idempotency_key": "k"}, ("idempotency_key", "unknown argument", "accepted are subject")),
]


async def test_an_acknowledged_event_is_in_the_spool_as_it_was_sent(spool: Spool, mode: str) -> None:
    features = {"q": 'Übergröße \U0001f9ca\u2028\n"', "n": [1, -0.5, 2**53 - 1, None, True], "nested": {"": {}}}
    async with connected(spool, mode) as server:
        answer = await server.ok(
            "log_event",
            {
                "activity": "cdesk.team.made_up",
                "feature_json": features,
                "link": "https://example.com/a",
                "revenue_impact": -12.5,
            },
        )
        [event] = server.events()
    assert set(answer) == {"event_id", "ts"}
    assert (event["activity_id"], event["ts"]) == (answer["event_id"], answer["ts"])
    assert event["feature_json"] == features
    assert (event["customer"], event["activity"]) == ("acme", "cdesk.team.made_up")
    assert (event["link"], event["revenue_impact"]) == ("https://example.com/a", -12.5)
    assert (event["_source_system"], event["_source_version"]) == ("claude_desktop", "1.2.3")


async def test_an_insight_always_has_all_its_feature_keys(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        bare = await server.ok("log_insight", {**INSIGHT, "value": None})
        await server.ok("log_insight", {**INSIGHT, "valid_from": "2026-11-01", "valid_to": "2026-12-01T00:00:00+02:00"})
        first, second = server.events()
    assert bare == {"event_id": first["activity_id"], "verified": False}
    assert first["activity"] == "cdesk.insight_recorded"
    assert first["feature_json"] == {**INSIGHT, "value": None, "valid_from": None, "valid_to": None, "verified": False}
    assert set(second["feature_json"]) == set(first["feature_json"])
    assert second["feature_json"]["valid_to"] == "2026-11-30T22:00:00.000000Z"


async def test_a_wrong_argument_is_named_with_what_is_accepted_and_whether_to_retry(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        for tool, cases in (("log_event", BAD_EVENTS), ("log_insight", BAD_INSIGHTS)):
            for arguments, words in cases:
                message, retryable = await server.refused(tool, arguments)
                assert not retryable
                assert message.endswith("Nothing was stored. Correct the argument and call again.")
                assert [word for word in words if word not in message] == [], message
                assert message.isprintable()
                assert len(message) < 700


async def test_a_tool_that_does_not_exist_is_told_which_do(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        with pytest.raises(MCPError, match=r"no_such.*get_context, log_event, log_insight, submit_query"):
            await server.client.call_tool("no_such\n", {})


async def test_the_same_idempotency_key_twice_is_one_event(spool: Spool, mode: str, tmp_path: Path) -> None:
    async with connected(spool, mode) as server:
        first = await server.ok("log_event", {**EVENT, "idempotency_key": "ask-1"})
        again = await server.ok("log_event", {**EVENT, "idempotency_key": "ask-1"})
        other = await server.ok("log_event", {**EVENT, "idempotency_key": "ask-2"})
    assert first["event_id"] == again["event_id"] != other["event_id"]
    path = tmp_path / "warehouse.duckdb"
    warehouse = DuckDBWarehouse(path, spool.work, ORIGIN)
    drain = Drain(spool, warehouse, Delivery(warehouse, anyio.Event(), lambda _problem: None))
    await drain.drain_batch(await drain.waiting())
    await warehouse.close()
    assert len(loaded_lines(path)) == 2


async def test_the_same_key_of_two_customers_is_two_events(spool: Spool, mode: str) -> None:
    async with connected(spool, mode, "beta") as server:
        mine = await server.ok("log_event", {**EVENT, "idempotency_key": "1"})
        theirs = await server.ok("log_event", {**EVENT, "idempotency_key": "1", "customer_id": "beta"})
    assert mine["event_id"] != theirs["event_id"]


@pytest.mark.parametrize("tool", ["log_event", "log_insight"])
async def test_a_customer_that_exists_and_one_that_does_not_get_the_same_refusal(
    spool: Spool, mode: str, tool: str
) -> None:
    good = EVENT if tool == "log_event" else INSIGHT
    async with connected(spool, mode, customer="beta") as other:
        await other.ok(tool, good)
    async with connected(spool, mode, "gamma") as server:
        strangers = ["beta", "never-seen", "ACME", "a" * 255, "snowledger"]
        answers = {await server.refused(tool, {**good, "customer_id": stranger}) for stranger in strangers}
        [(message, retryable)] = answers
        assert "not found or not allowed" in message
        assert not retryable
        for customer in ("acme", "gamma", None):
            await server.ok(tool, {**good, "customer_id": customer})
        assert [event["customer"] for event in server.events()] == ["beta", "acme", "gamma", "acme"]


@pytest.mark.parametrize(
    ("odd", "rule"),
    [
        *(
            (odd, "accepted are printable characters without / and \\")
            for odd in ("../beta", "a/b", "a\\b", "acme ", "\n")
        ),
        ("\0", "printable"),
        ("\ud800", "printable"),
        ("", "has 0 characters; accepted are 1 to 255"),
        ("x" * 10_000, "has 10000 characters; accepted are 1 to 255"),
        (5, "must be a string, not int"),
        (True, "must be a string, not bool"),
        (["acme"], "must be a string, not list"),
        ({"acme": 1}, "must be a string, not dict"),
    ],
)
async def test_a_customer_that_nobody_can_be_is_refused_with_the_rule(
    spool: Spool, mode: str, odd: object, rule: str
) -> None:
    async with connected(spool, mode, "beta") as server:
        for tool, arguments in (("log_event", EVENT), ("log_insight", INSIGHT), ("get_context", {})):
            message, retryable = await server.refused(tool, {**arguments, "customer_id": odd})
            assert message.startswith("customer_id: ")
            assert rule in message
            assert "Correct the argument and call again." in message
            assert not retryable
            assert len(message) < 300


async def test_when_the_disk_refuses_the_call_may_be_repeated_and_then_works(spool: Spool, mode: str) -> None:
    class Full(OsFilesystem):
        def create(self, path: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    full = open_spool(spool.home)
    object.__setattr__(full, "filesystem", Full())
    async with connected(full, mode) as server:
        message, retryable = await server.refused("log_event", EVENT)
        assert retryable
        assert "No space left" in message
        assert "Nothing was acknowledged. Repeat the call unchanged" in message
        object.__setattr__(full, "filesystem", OsFilesystem())
        await server.ok("log_event", EVENT)
        assert len(server.events()) == 1


async def test_a_defect_shows_a_reference_that_the_log_explains_and_nothing_else(
    spool: Spool, mode: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_writer: QueueWriter, _events: object) -> None:
        raise ZeroDivisionError("password=hunter2 in /home/me/secret")

    monkeypatch.setattr(QueueWriter, "append", broken)
    async with connected(spool, mode) as server:
        with caplog.at_level(logging.ERROR, "snowledger_server"):
            message, retryable = await server.refused("log_event", EVENT)
    assert not retryable
    assert "reference " in message
    assert not {"hunter2", "secret", "ZeroDivision"} & set(message.replace("=", " ").split())
    reference = message.split("reference ")[1].split()[0]
    assert reference in caplog.text
    assert "hunter2" in caplog.text


async def test_who_does_not_know_whether_it_was_stored_is_told_what_repeating_it_does(
    spool: Spool, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def uncertain(_writer: QueueWriter, _events: object) -> None:
        raise UncertainWriteError("the disk is slow")

    monkeypatch.setattr(QueueWriter, "append", uncertain)
    async with connected(spool, mode) as server:
        for tool, arguments, advice in (
            ("log_event", EVENT, "Repeat the call only with the idempotency_key it had."),
            ("log_insight", INSIGHT, "stores the insight again, perhaps twice then; the later one counts."),
        ):
            message, _ = await server.refused(tool, arguments)
            assert "Whether anything was stored is not known." in message
            assert message.endswith(advice)


async def test_the_schemas_say_what_the_tools_do(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        tools = {tool.name: tool for tool in (await server.client.list_tools()).tools}
    assert set(tools) == TOOLS
    for tool in tools.values():
        assert not {"oneOf", "anyOf", "allOf"} & set(tool.input_schema)
        assert tool.input_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False
        assert set(tool.input_schema["required"]) <= set(tool.input_schema["properties"])
        assert all("description" in found for found in tool.input_schema["properties"].values())
        assert tool.output_schema is not None
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is (tool.name in {"get_context", "get_result"})
        assert tool.annotations.idempotent_hint is (tool.name in {"get_context", "get_result", "cancel_query"})
        assert tool.annotations.destructive_hint is (tool.name == "cancel_query")
        assert tool.annotations.open_world_hint is False
