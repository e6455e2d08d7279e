"""`serve --http` as a process of its own, and what its clients send."""

import json
import re
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
from tests.acceptance.ledger import PATIENCE_S, Ledger
from tests.command_server import Command
from tests.queue_package.queue_samples import queued_lines

from snowledger_queue import RunnerTickets, timestamp

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "Test Client/1", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class HttpServer:
    """The server on a spool of its own, at a port that was free."""

    def __init__(self, folder: Path, *arguments: str, listen: str = "127.0.0.1:0", **variables: str) -> None:
        self.ledger = Ledger(folder)
        folder.mkdir(exist_ok=True)
        with closing(RunnerTickets(self.ledger.spool)) as runner:  # what an uploader makes
            runner.recover(timestamp(datetime.now(UTC)))
        self.process: Command = self.ledger.start("serve", "--http", listen, "--no-uploader", *arguments, **variables)
        found = re.search(r"listening on (https?)://(\S+):(\d+)/mcp\n", self.said("listening on"))
        assert found is not None
        self.scheme, self.host, self.port = found[1], found[2].strip("[]"), int(found[3])
        self.url = f"{found[1]}://{found[2]}:{found[3]}"
        self.mcp = f"{self.url}/mcp"

    def said(self, words: str) -> str:
        """What it has written to standard error by the time the words are in it."""
        deadline = time.monotonic() + PATIENCE_S
        while words not in self.ledger.errors:
            assert self.process.poll() is None, self.ledger.errors
            assert time.monotonic() < deadline, self.ledger.errors
            time.sleep(0.02)
        return self.ledger.errors

    def events(self) -> list[dict[str, Any]]:
        """What is in the spool now, sealed or not."""
        return [json.loads(line) for line in queued_lines(self.ledger.spool)]

    def end(self, number: int = 15) -> float:
        """Send the signal; after how many seconds it had ended, in order."""
        begun = time.monotonic()
        self.process.send_signal(number)
        assert self.process.wait(PATIENCE_S) == 0, self.ledger.errors
        return time.monotonic() - begun

    def close(self) -> None:
        self.ledger.close()
        assert [line for line in self.ledger.errors.splitlines() if "Traceback" in line] == []


def request(method: str, era: str, **params: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and body of one request."""
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    if era == LEGACY:
        return {**ACCEPT, "mcp-protocol-version": LEGACY}, body
    params["_meta"] = META
    headers = {**ACCEPT, "mcp-protocol-version": MODERN, "mcp-method": method}
    name = params.get("name", params.get("uri"))
    return headers if name is None else {**headers, "mcp-name": str(name)}, body


def tool_call(era: str, tool: str, arguments: dict[str, Any], token: str = "", **headers: str) -> dict[str, Any]:
    """The arguments with which an HTTP client posts a call."""
    given, body = request("tools/call", era, name=tool, arguments=arguments)
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        more["authorization"] = f"Bearer {token}"
    return {"headers": {**given, **more}, "json": body}


def call(
    client: httpx2.Client, url: str, era: str, tool: str, arguments: dict[str, Any], **headers: str
) -> httpx2.Response:
    """Call a tool once."""
    return client.post(url, **tool_call(era, tool, arguments, **headers))
