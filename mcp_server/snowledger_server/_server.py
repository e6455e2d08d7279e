"""The MCP server: the tools behind the SDK's low-level server, and what every call goes through."""

from __future__ import annotations

import logging
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from snowledger_queue import QueueError, new_query_tag

from ._cancel_query import cancel_query_tool
from ._errors import ServerError, UnexpectedError
from ._get_context import get_context_tool
from ._get_result import get_result_tool
from ._log_event import log_event_tool
from ._log_insight import log_insight_tool
from ._resources import TEMPLATES, Resources
from ._submit_query import submit_query_tool
from ._tool import Call, Journal, Tool, answer, check_names, failure

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

    from ._contexts import Contexts
    from ._identity import Identity
    from ._queries import Queries

log = logging.getLogger(__name__)

INSTRUCTIONS = (
    "snowledger is the company's memory and audit trail. Call get_context at the start of a conversation: it recalls "
    "what earlier ones learnt and did. Call log_event when something worth auditing happened "
    "(a question, a tool call, a query, a file, an error). Call log_insight when you learnt a number or a finding "
    "that later conversations should recall, with the hash of the query that produced it. Call submit_query, then "
    "get_result with wait_s, to ask the stream itself; cancel_query stops what is not needed. All answer in "
    "milliseconds, but for get_result while it waits; what is logged is durable when they answer. If a call fails, "
    "its error says what is accepted and whether to retry."
)


def build_server(
    journal: Journal, contexts: Contexts, queries: Queries, identity: Identity, version: str
) -> Server[Any]:
    """The server with its tools and resources, for any transport. Every call acts for ``identity``."""
    tools: dict[str, Tool] = {
        tool.definition.name: tool
        for tool in (
            get_context_tool(contexts),
            log_event_tool(journal),
            log_insight_tool(journal, queries),
            submit_query_tool(queries),
            get_result_tool(queries),
            cancel_query_tool(queries),
        )
    }
    resources = Resources(contexts, queries, identity)
    listing = types.ListToolsResult(tools=[tool.definition for tool in tools.values()])

    async def list_tools(
        _context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return listing

    async def call_tool(
        context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool = tools.get(params.name)
        if tool is None:
            message = f"Unknown tool {params.name[:100]!a}; the tools are {', '.join(tools)}"
            raise MCPError(code=types.INVALID_PARAMS, message=message)
        progress = partial(_report, context)
        return await call(tool, Call(params.arguments or {}, identity, new_query_tag(), progress))

    async def list_resources(
        _context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        return resources.listing

    async def list_resource_templates(
        _context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return TEMPLATES

    async def read(
        context: ServerRequestContext[Any], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        return await resources.read(str(params.uri), context.protocol_version)

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
        on_list_resources=list_resources,
        on_list_resource_templates=list_resource_templates,
        on_read_resource=read,
        get_tool_input_schema=input_schema,
    )


async def _report(context: ServerRequestContext[Any], done: float, message: str) -> None:
    await context.session.report_progress(done, None, message)


async def call(tool: Tool, request: Call) -> types.CallToolResult:
    """Run a tool; every failure becomes a result that a model can act on, and no detail of ours leaks."""
    try:
        check_names(tool, request.arguments)
        return answer(await tool.run(request))
    except (ServerError, QueueError) as error:
        log.info("%s %s refused: %s", request.query_tag, tool.definition.name, error)
        return failure(error, tool)
    except Exception:
        reference = secrets.token_hex(4)
        log.exception("%s %s failed, reference %s", request.query_tag, tool.definition.name, reference)
        return failure(UnexpectedError(reference), tool)
