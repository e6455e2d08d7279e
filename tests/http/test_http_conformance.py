"""What the official conformance suite checks of a server, for the scenarios that need no test tools."""

import json
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import httpx2
import pytest
from tests.http.http_server import ACCEPT, LEGACY, META, MODERN, HttpServer, request
from tests.server.server_samples import TOOLS

OLDER = ["2025-06-18", LEGACY]
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
VERSION = "io.modelcontextprotocol/protocolVersion"
INFO = "io.modelcontextprotocol/clientInfo"

HEADER_MISMATCH, UNSUPPORTED_VERSION, NO_METHOD, BAD_PARAMS = -32020, -32022, -32601, -32602


def ask(server: HttpServer, client: httpx2.Client, method: str, era: str = MODERN, **params: Any) -> Any:
    headers, body = request(method, era, **params)
    answer = client.post(server.mcp, headers=headers, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def refused(answer: httpx2.Response) -> tuple[int, int]:
    """Status and code of an error that says which request it answers."""
    content = answer.json()
    assert content["jsonrpc"] == "2.0"
    assert content["id"] == 1
    return answer.status_code, content["error"]["code"]


@pytest.mark.parametrize("version", OLDER)
def test_initialize_agrees_on_the_version_and_ping_is_answered(
    server: HttpServer, client: httpx2.Client, version: str
) -> None:
    def post(method: str, **params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return client.post(server.mcp, headers={**ACCEPT, "mcp-protocol-version": version}, json=body).json()["result"]

    hello = post("initialize", protocolVersion=version, capabilities={}, clientInfo={"name": "a", "version": "1"})
    assert hello["protocolVersion"] == version
    assert hello["serverInfo"]["name"] == "snowledger"
    assert set(hello["capabilities"]) == {"tools", "resources"}
    assert post("ping") == {}


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_tools_are_listed_in_the_same_order_each_time(server: HttpServer, client: httpx2.Client, era: str) -> None:
    first, second = (ask(server, client, "tools/list", era)["tools"] for _ in range(2))
    assert first == second
    assert {tool["name"] for tool in first} == TOOLS
    assert all(tool["description"] and tool["inputSchema"]["type"] == "object" for tool in first)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/list", {}),
        ("resources/list", {}),
        ("resources/templates/list", {}),
        ("resources/read", {"uri": "snowledger://templates"}),
        ("resources/read", {"uri": "snowledger://context/acme"}),
    ],
)
def test_what_may_be_kept_says_for_how_long_and_by_whom(
    server: HttpServer, client: httpx2.Client, method: str, params: dict[str, str]
) -> None:
    result = ask(server, client, method, **params)
    assert isinstance(result["ttlMs"], int)
    assert result["ttlMs"] >= 0
    assert result["cacheScope"] in {"public", "private"}
    if "context" in str(params):
        assert result["cacheScope"] == "private"


def test_each_request_says_all_there_is_to_know_of_its_client(server: HttpServer, client: httpx2.Client) -> None:
    assert set(ask(server, client, "server/discover")["capabilities"]) == {"tools", "resources"}
    headers, body = request("tools/list", MODERN)

    def post(meta: dict[str, Any] | None) -> httpx2.Response:
        params = {} if meta is None else {"_meta": meta}
        return client.post(server.mcp, headers=headers, json={**body, "params": params})

    assert post({key: META[key] for key in (VERSION, CAPABILITIES)}).status_code == 200
    for meta in (None, {VERSION: MODERN, INFO: META[INFO]}, {CAPABILITIES: {}, INFO: META[INFO]}):
        assert refused(post(meta)) == (400, BAD_PARAMS)
    assert refused(post({**META, VERSION: LEGACY})) == (400, HEADER_MISMATCH)
    later = {**body, "params": {"_meta": {**META, VERSION: "2099-01-01"}}}
    answer = client.post(server.mcp, headers={**headers, "mcp-protocol-version": "2099-01-01"}, json=later)
    assert refused(answer) == (400, UNSUPPORTED_VERSION)
    assert MODERN in answer.json()["error"]["data"]["supported"]


@pytest.mark.parametrize(
    "method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "prompts/list", "nothing/of/that/kind"]
)
def test_a_method_that_there_is_not_is_a_404(server: HttpServer, client: httpx2.Client, method: str) -> None:
    headers, body = request(method, MODERN)
    assert refused(client.post(server.mcp, headers=headers, json=body)) == (404, NO_METHOD)


@pytest.mark.parametrize(
    "changed",
    [
        {"mcp-method": "prompts/list"},
        {"mcp-method": None},
        {"mcp-method": "TOOLS/CALL"},
        {"mcp-name": "log_event"},
        {"mcp-name": None},
    ],
)
def test_headers_that_do_not_match_the_body_are_refused(
    server: HttpServer, client: httpx2.Client, changed: dict[str, str | None]
) -> None:
    headers, body = request("tools/call", MODERN, name="get_context", arguments={})
    sent = {name: value for name, value in {**headers, **changed}.items() if value is not None}
    assert refused(client.post(server.mcp, headers=sent, json=body)) == (400, HEADER_MISMATCH)


@pytest.mark.parametrize("names", [("MCP-METHOD", "MCP-NAME"), ("mcp-method", "mcp-name")])
@pytest.mark.parametrize("name", ["get_context", "  get_context  "])
def test_headers_are_read_whatever_their_case_and_the_blanks_around_them(
    server: HttpServer, names: tuple[str, str], name: str
) -> None:
    headers, body = request("tools/call", MODERN, name="get_context", arguments={})
    sent = {key: value for key, value in headers.items() if key not in {"mcp-method", "mcp-name"}}
    sent |= {names[0]: "tools/call", names[1]: name}
    with closing(HTTPConnection(server.host, server.port, timeout=20)) as wire:  # sends headers as they are given
        wire.request("POST", "/mcp", json.dumps(body), sent)
        assert json.load(wire.getresponse())["result"]["isError"] is False


def test_a_resource_that_there_is_not_is_named_in_the_error(server: HttpServer, client: httpx2.Client) -> None:
    headers, body = request("resources/read", MODERN, uri="snowledger://nothing")
    answer = client.post(server.mcp, headers=headers, json=body)
    assert answer.json()["error"]["code"] == BAD_PARAMS
    assert answer.json()["error"]["data"]["uri"] == "snowledger://nothing"
