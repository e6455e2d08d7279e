"""The server in this process, with a real spool behind it, and the official client in front."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import mcp_types as types
from mcp import Client
from tests.queue_package.queue_samples import queued_lines

from snowledger_queue import Origin, PressureLimits, Spool, timestamp
from snowledger_server import Caller, Identity, Journal, build_server, open_contexts, open_journal, open_queries

HASH = "0123456789abcdef" * 4
INSIGHT = {"subject": "customer/acme", "metric": "mrr_usd", "value": 1250, "provenance_query_hash": HASH}
EVENT: dict[str, Any] = {"activity": "cdesk.user_asked", "feature_json": {"question": "why?"}}
TOOLS = {"get_context", "log_event", "log_insight", "submit_query", "get_result", "cancel_query"}
ERAS = ["legacy", "auto"]
PATIENCE_S = 20
LIMITS = PressureLimits()

EMPTY = {
    "customer": "acme",
    "truncated": False,
    "left_out": dict.fromkeys(("insights", "insight_values", "tickets", "activity_counts", "recent_events"), 0),
    "next_cursor": None,
    "insights": [],
    "tickets": [],
    "activity_counts": [],
    "recent_events": [],
}

"""The context of a customer of whom nothing is known, without its times."""


class Connected(NamedTuple):
    client: Client
    journal: Journal
    spool: Spool

    def events(self) -> list[dict[str, Any]]:
        """What is in the spool now, sealed or not."""
        return [json.loads(line) for line in queued_lines(self.spool)]

    async def ok(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The structured answer of a call that works."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result
        assert isinstance(result.structured_content, dict)
        assert json.loads(text(result)) == result.structured_content
        return result.structured_content

    async def refused(self, tool: str, arguments: dict[str, Any]) -> tuple[str, bool]:
        """Text and `retryable` of a call that fails, the same in both forms."""
        before = len(self.events())
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result
        assert isinstance(result.structured_content, dict)
        assert result.structured_content["error"] in text(result)
        assert len(self.events()) == before
        return text(result), bool(result.structured_content["retryable"])


def text(result: types.CallToolResult) -> str:
    [content] = result.content
    assert isinstance(content, types.TextContent)
    return content.text


@asynccontextmanager
async def connected(
    spool: Spool,
    mode: str,
    *allowed: str,
    customer: str = "acme",
    max_age_s: float = 300,
    templates_dir: Path | None = None,
    limits: PressureLimits = LIMITS,
) -> AsyncIterator[Connected]:
    caller = Caller(Identity(customer, frozenset(allowed)), Origin("1.2.3", "session-1"))
    async with open_journal(spool, limits, caller.origin) as journal:
        with open_contexts(spool, max_age_s) as contexts, open_queries(spool, templates_dir) as queries:
            server = build_server(journal, contexts, queries, lambda _context: caller, "1.2.3")
            async with Client(server, mode=mode) as client:
                yield Connected(client, journal, spool)


def moment(seconds: float = 0) -> str:
    return timestamp(datetime.now(UTC) + timedelta(seconds=seconds))


async def recalled(server: Connected, **arguments: Any) -> list[tuple[str, str, Any]]:
    context = await server.ok("get_context", arguments)
    return [(found["subject"], found["metric"], found["value"]) for found in context["insights"]]


async def learn(server: Connected, subject: str, value: object, **more: Any) -> dict[str, Any]:
    return await server.ok("log_insight", {**INSIGHT, "subject": subject, "value": value, **more})
