"""The same tools and resources over HTTP, in both protocol eras, through the official client."""

import json
from typing import Any

import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from tests.http.http_server import LEGACY, MODERN, HttpServer, call, request
from tests.server.server_samples import ERAS, EVENT, INSIGHT, TOOLS, text

pytestmark = pytest.mark.parametrize("mode", ERAS)

WIRE = {"legacy": LEGACY, "auto": MODERN}


def structured(result: types.CallToolResult) -> dict[str, Any]:
    assert not result.is_error, result
    assert json.loads(text(result)) == result.structured_content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


async def test_tools_work_and_what_was_logged_is_recalled(server: HttpServer, mode: str) -> None:
    async with Client(server.mcp, mode=mode) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
        logged = structured(await client.call_tool("log_event", EVENT))
        learnt = structured(await client.call_tool("log_insight", {**INSIGHT, "subject": f"http/{mode}"}))
        context = structured(await client.call_tool("get_context", {}))
        assert logged["event_id"] in {event["event_id"] for event in context["recent_events"]}
        assert learnt["event_id"] in {insight["insight_id"] for insight in context["insights"]}


async def test_a_query_is_submitted_waited_for_and_cancelled(server: HttpServer, mode: str) -> None:
    async with Client(server.mcp, mode=mode) as client:
        ticket = structured(await client.call_tool("submit_query", {"template": "activity_counts"}))["ticket_id"]
        waited = structured(await client.call_tool("get_result", {"ticket_id": ticket, "wait_s": 0.2}))
        assert waited["status"] == "queued"
        cancelled = structured(await client.call_tool("cancel_query", {"ticket_id": ticket}))
        assert cancelled["status"] == "cancelled"


async def test_resources_are_listed_and_read(server: HttpServer, mode: str) -> None:
    async with Client(server.mcp, mode=mode) as client:
        assert "snowledger://context/acme" in {str(found.uri) for found in (await client.list_resources()).resources}
        assert len((await client.list_resource_templates()).resource_templates) == 3
        [content] = (await client.read_resource("snowledger://context/acme")).contents
        assert isinstance(content, types.TextResourceContents)
        assert json.loads(content.text)["customer"] == "acme"
        with pytest.raises(MCPError, match="not found or not allowed"):
            await client.read_resource("snowledger://context/other")


async def test_errors_say_what_is_accepted(server: HttpServer, mode: str) -> None:
    async with Client(server.mcp, mode=mode) as client:
        refused = await client.call_tool("log_event", {**EVENT, "activity": "user_asked"})
        assert refused.is_error
        assert "cdesk." in text(refused)
        with pytest.raises(MCPError, match="the tools are get_context"):
            await client.call_tool("nothing", {})


def test_an_answer_is_the_same_bytes_as_text_and_as_structure(
    server: HttpServer, client: httpx2.Client, mode: str
) -> None:
    odd = {"text": 'ü\u2028\U0001f9ca"\\ "content":[],"structuredContent":{}', "": {"a/b": None}, "n": [1e100, -0.0]}
    logged = call(client, server.mcp, WIRE[mode], "log_insight", {**INSIGHT, "value": odd})
    assert logged.json()["result"]["isError"] is False
    for arguments in ({}, {"max_bytes": 600}):
        response = call(client, server.mcp, WIRE[mode], "get_context", arguments)
        result = response.json()["result"]
        text = result["content"][0]["text"]
        assert b'"structuredContent":' + text.encode() in response.content
        assert result["structuredContent"] == json.loads(text)
    assert odd in [
        insight["value"]
        for insight in call(client, server.mcp, WIRE[mode], "get_context", {}).json()["result"]["structuredContent"][
            "insights"
        ]
    ]


def test_an_id_that_looks_like_a_part_of_the_answer_changes_nothing(
    server: HttpServer, client: httpx2.Client, mode: str
) -> None:
    headers, body = request("tools/call", WIRE[mode], name="get_context", arguments={})
    body["id"] = '"content":[] "structuredContent":{}'
    answer = client.post(server.mcp, headers=headers, json=body).json()
    assert answer["id"] == body["id"]
    assert answer["result"]["structuredContent"]["customer"] == "acme"
