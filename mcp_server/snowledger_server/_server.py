"""The MCP server: the tools behind the SDK's low-level server, and what every call goes through."""

from __future__ import annotations

import logging
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider

from snowledger_queue import QueueError, correlated, new_query_tag

from ._cancel_query import cancel_query_tool
from ._encoded_answers import finished
from ._errors import ServerError, TimeLimitError, UnexpectedError
from ._get_context import get_context_tool
from ._get_result import get_result_tool
from ._log_event import log_event_tool
from ._log_insight import log_insight_tool
from ._resources import TEMPLATES, Resources
from ._submit_query import submit_query_tool
from ._tool import CALL_S, Call, Observe, Tool, answer, check_names, failure, nobody

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.context import ServerRequestContext

    from ._contexts import Contexts
    from ._encoded_answers import Answer
    from ._identity import Caller
    from ._journal import Journal
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
    journal: Journal,
    contexts: Contexts,
    queries: Queries,
    caller: Callable[[ServerRequestContext[Any]], Caller],
    version: str,
    observe: Observe = nobody,
) -> Server[Any]:
    """The server with its tools and resources, for any transport, which says by ``caller`` for whom a request acts.

    ``observe`` hears of every call of a tool that there is.
    """
    tools: dict[str, Tool] = {
        tool.definition.name: tool
        for tool in (
            get_context_tool(contexts),
            log_event_tool(journal),
            log_insight_tool(journal, queries),
            submit_query_tool(queries, journal),
            get_result_tool(queries),
            cancel_query_tool(queries),
        )
    }
    resources = Resources(contexts, queries)
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
        request = Call(params.arguments or {}, caller(context), new_query_tag(), partial(_report, context))
        with correlated(request.query_tag):
            return finished(await call(tool, request, observe))

    async def list_resources(
        context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        return resources.listing(caller(context).identity)

    async def list_resource_templates(
        _context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return TEMPLATES

    async def read(
        context: ServerRequestContext[Any], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        with correlated(new_query_tag()):
            return await resources.read(caller(context).identity, str(params.uri), context.protocol_version)

    server: Server[Any] = Server(
        "snowledger",
        version=version,
        title="snowledger",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_resource_templates,
        on_read_resource=read,
        # None of ours has arguments in headers (x-mcp-header), which the SDK would look for at every call.
        get_tool_input_schema=lambda _name: None,
    )
    if isinstance(get_tracer_provider(), ProxyTracerProvider):
        # Nobody collects the spans that the SDK's own middleware makes, which take a tenth of a call.
        server.middleware.clear()
    return server


async def _report(context: ServerRequestContext[Any], done: float, message: str) -> None:
    await context.session.report_progress(done, None, message)


async def call(tool: Tool, request: Call, observe: Observe = nobody) -> types.CallToolResult:
    """Run a tool; every failure becomes a result that a model can act on, and no detail of ours leaks."""
    name = tool.definition.name
    outcome = "cancelled"
    began = time.perf_counter()
    try:
        check_names(tool, request.arguments)
        result = answer(await (tool.run(request) if tool.bounded else _limited(tool, request)))
        outcome = "ok"
        log.debug("%s answered", name)
    except TimeLimitError as error:
        outcome = "failed"
        log.error("%s was ended after %g s", name, CALL_S)  # noqa: TRY400 - where it was says nothing
        result = failure(error, tool)
    except (ServerError, QueueError) as error:
        outcome = "unavailable" if error.transient else "refused"
        log.info("%s %s: %s", name, outcome, error)
        result = failure(error, tool)
    except Exception:
        outcome = "failed"
        reference = secrets.token_hex(4)
        log.exception("%s failed, reference %s", name, reference)
        result = failure(UnexpectedError(reference), tool)
    finally:
        observe(name, outcome, time.perf_counter() - began)
    return result


async def _limited(tool: Tool, request: Call) -> dict[str, object] | Answer:
    with anyio.move_on_after(CALL_S):
        return await tool.run(request)
    raise TimeLimitError(CALL_S)
