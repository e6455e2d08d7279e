"""The MCP server: the tools behind the SDK's low-level server, and what every call goes through."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from snowledger_queue import QueueError, new_query_tag

from ._errors import ServerError, UnexpectedError
from ._log_event import log_event_tool
from ._log_insight import log_insight_tool
from ._tool import Call, Journal, Tool, answer, check_names, failure

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

    from ._identity import Identity

log = logging.getLogger(__name__)

INSTRUCTIONS = (
    "snowledger is the company's memory and audit trail. Call log_event when something worth auditing happened "
    "(a question, a tool call, a query, a file, an error). Call log_insight when you learnt a number or a finding "
    "that later conversations should recall, with the hash of the query that produced it. Both answer in "
    "milliseconds and are durable when they answer. If a call fails, its error says what is accepted and whether to "
    "retry."
)


def build_server(journal: Journal, identity: Identity, version: str) -> Server[Any]:
    """The server with its tools, for any transport. Every call acts for ``identity``."""
    tools: dict[str, Tool] = {
        tool.definition.name: tool for tool in (log_event_tool(journal), log_insight_tool(journal))
    }
    listing = types.ListToolsResult(tools=[tool.definition for tool in tools.values()])

    async def list_tools(
        _context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return listing

    async def call_tool(
        _context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool = tools.get(params.name)
        if tool is None:
            message = f"Unknown tool {params.name[:100]!a}; the tools are {', '.join(tools)}"
            raise MCPError(code=types.INVALID_PARAMS, message=message)
        return await call(tool, Call(params.arguments or {}, identity, new_query_tag()))

    def input_schema(name: str) -> dict[str, Any] | None:
        tool = tools.get(name)
        return None if tool is None else tool.definition.input_schema

    return Server(
        "snowledger",
        version=version,
        title="snowledger",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema=input_schema,
    )


async def call(tool: Tool, request: Call) -> types.CallToolResult:
    """Run a tool; every failure becomes a result that a model can act on, and no detail of ours leaks."""
    try:
        check_names(tool, request.arguments)
        return answer(await tool.run(request))
    except (ServerError, QueueError) as error:
        log.info("%s %s refused: %s", request.query_tag, tool.definition.name, error)
        return failure(error)
    except Exception:
        reference = secrets.token_hex(4)
        log.exception("%s %s failed, reference %s", request.query_tag, tool.definition.name, reference)
        return failure(UnexpectedError(reference))
