"""What is recorded of where an event came from: the client's name, and a session of its own."""

from typing import Any

import httpx2
import pytest
from tests.http.http_server import LEGACY, META, MODERN, HttpServer, request, tool_call
from tests.server.server_samples import EVENT, INSIGHT


def origin(server: HttpServer, post: dict[str, Any]) -> tuple[str, str]:
    """Source and session of the event that the call has logged."""
    with httpx2.Client() as client:
        answer = client.post(server.mcp, **post).json()["result"]
    assert answer["isError"] is False, answer
    [event] = [one for one in server.events() if one["activity_id"] == answer["structuredContent"]["event_id"]]
    assert event["_source_version"]
    return event["_source_system"], event["_session_id"]


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_a_client_has_one_session_or_the_one_it_names(server: HttpServer, era: str) -> None:
    own = {
        origin(server, tool_call(era, tool, arguments))[1]
        for tool, arguments in (("log_event", EVENT), ("log_insight", INSIGHT))
    }
    assert len(own) == 1
    assert len(own.copy().pop()) == 32
    named = tool_call(era, "log_event", EVENT, mcp_session_id="a1b2c3d4-0000-4abc-9000-0123456789ab")
    assert origin(server, named)[1] == "a1b2c3d4-0000-4abc-9000-0123456789ab"
    for odd in ("short", "x" * 129, "with blanks in it", "<script>alert(1)</script>", "\xe4" * 10):
        headers = {name: value.encode("latin-1") for name, value in {**named["headers"], "mcp-session-id": odd}.items()}
        assert origin(server, {**named, "headers": headers})[1] in own


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("Claude Code", "claude-code"),
        ("claude-ai", "claude-ai"),
        ("snowledger", "http"),
        ("SNOWLEDGER", "http"),
        ("-import-", "http"),
        ("", "http"),
        ("☃", "http"),
        ("a\n\x1b[31m\u2028b", "a-31m-b"),
        ("x" * 1000, "x" * 64),
    ],
)
def test_the_source_is_the_clients_name_made_safe(server: HttpServer, name: str, source: str) -> None:
    headers, body = request("tools/call", MODERN, name="log_event", arguments=EVENT)
    body["params"]["_meta"] = {**META, "io.modelcontextprotocol/clientInfo": {"name": name, "version": "1"}}
    assert origin(server, {"headers": headers, "json": body})[0] == source


@pytest.mark.parametrize(
    ("agent", "source"),
    [("claude-code/2.1.0 (external, cli)", "claude-code"), ("", "http"), ("import/1", "http"), ("node", "node")],
)
def test_on_the_older_wire_it_is_the_user_agent(server: HttpServer, agent: str, source: str) -> None:
    assert origin(server, tool_call(LEGACY, "log_event", EVENT, user_agent=agent))[0] == source


def test_two_tokens_have_two_sessions(server: HttpServer) -> None:
    """The last one: from the first token on, the server asks everybody for one."""
    tokens = [server.ledger.run("token", "add", name, "--customer", "acme").stdout.strip() for name in ("one", "two")]
    sessions = [origin(server, tool_call(MODERN, "log_event", EVENT, token))[1] for token in (*tokens, *tokens)]
    assert sessions[:2] == sessions[2:]
    assert sessions[0] != sessions[1]
