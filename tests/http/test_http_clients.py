"""What known clients send, byte for byte but for the port, and what they need to get for it."""

import json
import socket
from urllib.request import Request, urlopen

import h11
import pytest
from tests.http.http_server import HttpServer
from tests.server.server_samples import TOOLS

CLAUDE_CODE = """\
POST /mcp HTTP/1.1
host: localhost:PORT
connection: keep-alive
user-agent: claude-code/2.1.221 (sdk-cli)
accept: application/json, text/event-stream
content-type: application/json
content-length: LENGTH

{"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"roots":{"listChanged":true},\
"elicitation":{}},"clientInfo":{"name":"claude-code","title":"Claude Code","version":"2.1.221","description":\
"Anthropic's agentic coding tool","websiteUrl":"https://claude.com/claude-code"}},"jsonrpc":"2.0","id":0}
---
POST /mcp HTTP/1.1
host: localhost:PORT
connection: keep-alive
user-agent: claude-code/2.1.221 (sdk-cli)
accept: application/json, text/event-stream
content-type: application/json
mcp-protocol-version: 2025-11-25
content-length: LENGTH

{"method":"notifications/initialized","jsonrpc":"2.0"}
---
GET /mcp HTTP/1.1
host: localhost:PORT
connection: keep-alive
user-agent: claude-code/2.1.221 (sdk-cli)
accept: text/event-stream
mcp-protocol-version: 2025-11-25

---
POST /mcp HTTP/1.1
host: localhost:PORT
connection: keep-alive
user-agent: claude-code/2.1.221 (sdk-cli)
accept: application/json, text/event-stream
content-type: application/json
mcp-protocol-version: 2025-11-25
content-length: LENGTH

{"method":"tools/list","jsonrpc":"2.0","id":1}
---
POST /mcp HTTP/1.1
host: localhost:PORT
connection: keep-alive
user-agent: claude-code/2.1.221 (sdk-cli)
accept: application/json, text/event-stream
content-type: application/json
mcp-protocol-version: 2025-11-25
content-length: LENGTH

{"method":"tools/call","params":{"name":"log_event","arguments":{"activity":"cdesk.user_asked","feature_json":{}},\
"_meta":{"claudecode/toolUseId":"toolu_013ZuN7d6YiCm1iGtB7oC6cX","progressToken":2}},"jsonrpc":"2.0","id":2}
---
DELETE /mcp HTTP/1.1
host: localhost:PORT
connection: keep-alive
user-agent: claude-code/2.1.221 (sdk-cli)
accept: application/json, text/event-stream
mcp-protocol-version: 2025-11-25

"""
"""Claude Code 2.1.221 after `claude mcp add --transport http`, as people have recorded it."""

INSPECTOR = """\
POST /mcp HTTP/1.1
host: 127.0.0.1:PORT
connection: keep-alive
content-type: application/json
accept: application/json, text/event-stream
accept-language: *
sec-fetch-mode: cors
user-agent: node
accept-encoding: gzip, deflate
content-length: LENGTH

{"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"roots":{"listChanged":true},\
"extensions":{"io.modelcontextprotocol/tasks":{},"io.modelcontextprotocol/skills":{}}},"clientInfo":{"name":\
"inspector-cli","version":"2.12.0"}},"jsonrpc":"2.0","id":0}
---
POST /mcp HTTP/1.1
host: 127.0.0.1:PORT
connection: keep-alive
mcp-protocol-version: 2025-11-25
content-type: application/json
accept: application/json, text/event-stream
accept-language: *
sec-fetch-mode: cors
user-agent: node
accept-encoding: gzip, deflate
content-length: LENGTH

{"jsonrpc":"2.0","method":"notifications/initialized"}
---
GET /mcp HTTP/1.1
host: 127.0.0.1:PORT
connection: keep-alive
mcp-protocol-version: 2025-11-25
accept: text/event-stream
accept-language: *
sec-fetch-mode: cors
user-agent: node
accept-encoding: gzip, deflate

---
POST /mcp HTTP/1.1
host: 127.0.0.1:PORT
connection: keep-alive
mcp-protocol-version: 2025-11-25
content-type: application/json
accept: application/json, text/event-stream
accept-language: *
sec-fetch-mode: cors
user-agent: node
accept-encoding: gzip, deflate
content-length: LENGTH

{"method":"tools/list","jsonrpc":"2.0","id":1}
"""
"""`mcp-inspector --cli URL --transport http --method tools/list`, version 2.12.0, recorded."""


def answers(server: HttpServer, recorded: str) -> list[tuple[int, dict[bytes, bytes], bytes]]:
    """Status, headers and body of each answer, all over one connection."""
    found = []
    connection = h11.Connection(h11.CLIENT)
    with socket.create_connection((server.host, server.port), timeout=20) as wire:
        for text in recorded.split("---\n"):
            head, _, body = text.partition("\n\n")
            body = body.removesuffix("\n")
            head = head.replace("PORT", str(server.port)).replace("LENGTH", str(len(body)))
            wire.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body.encode())
            connection.send(h11.Request(method=head.partition(" ")[0], target="/mcp", headers=[("host", "x")]))
            connection.send(h11.EndOfMessage())
            status, headers, content = 0, {}, b""
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    connection.receive_data(wire.recv(65536))
                elif isinstance(event, h11.Response):
                    status, headers = event.status_code, dict(event.headers)
                elif isinstance(event, h11.Data):
                    content += event.data
            connection.start_next_cycle()
            found.append((status, headers, content))
    return found


@pytest.mark.parametrize("recorded", [CLAUDE_CODE, INSPECTOR], ids=["Claude Code", "Inspector"])
def test_a_client_connects_without_a_session_or_stream_and_lists_the_tools(server: HttpServer, recorded: str) -> None:
    initialized, told, stream, listed, *more = answers(server, recorded)
    assert initialized[0] == 200
    assert initialized[1][b"content-type"] == b"application/json"
    assert b"mcp-session-id" not in initialized[1]
    assert json.loads(initialized[2])["result"]["protocolVersion"] == "2025-11-25"
    assert (told[0], told[2]) == (202, b"")
    # The one answer to GET that says: no stream, go on (2025-11-25, "Listening for Messages from the Server").
    assert (stream[0], stream[1][b"allow"]) == (405, b"POST")
    assert {tool["name"] for tool in json.loads(listed[2])["result"]["tools"]} == TOOLS
    if recorded is CLAUDE_CODE:
        logged, left = more
        result = json.loads(logged[2])["result"]
        assert result["isError"] is False
        [event] = [one for one in server.events() if one["activity_id"] == result["structuredContent"]["event_id"]]
        assert event["_source_system"] == "claude-code"
        assert left[0] == 405


def test_a_client_that_sends_no_accept_header_is_answered(server: HttpServer) -> None:
    """Python's and Go's own clients send none, and some versions of Claude Code did not."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    with urlopen(Request(server.mcp, body, {"content-type": "application/json"}), timeout=20) as response:  # noqa: S310
        assert len(json.load(response)["result"]["tools"]) == len(TOOLS)


def test_a_scraper_that_asks_for_a_format_that_there_is_not_gets_the_plain_one(server: HttpServer) -> None:
    asked = "GET /metrics HTTP/1.1\nhost: localhost:PORT\naccept: application/openmetrics-text; version=VERSION\n\n"
    for version, given in (("x", b"text/plain"), ("1.0.0", b"application/openmetrics-text")):
        [(status, headers, content)] = answers(server, asked.replace("VERSION", version))
        assert status == 200
        assert headers[b"content-type"].startswith(given)
        assert b"snowledger_" in content


def test_without_a_token_a_client_is_sent_no_way_to_sign_in_that_there_is_not(server: HttpServer) -> None:
    """The last one: from the first token on, the server asks everybody for one."""
    server.ledger.run("token", "add", "somebody", "--customer", "acme")
    [(status, headers, _)] = answers(server, CLAUDE_CODE.partition("---\n")[0])
    assert (status, headers[b"www-authenticate"]) == (401, b"Bearer")
    for path in ("oauth-protected-resource", "oauth-protected-resource/mcp", "oauth-authorization-server"):
        asked = f"GET /.well-known/{path} HTTP/1.1\nhost: localhost:PORT\nmcp-protocol-version: 2025-11-25\n\n"
        assert answers(server, asked)[0][0] == 404
