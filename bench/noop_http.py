"""The floor of ``bench.http``: a tool that does nothing, on the SDK's own HTTP application and uvicorn, unguarded."""

from __future__ import annotations

import gc
import sys

import mcp_types as types
import uvicorn
from mcp.server.lowlevel import Server

_RESULT = types.CallToolResult(
    content=[types.TextContent(type="text", text='{"ok":true}')], structured_content={"ok": True}
)
_TOOLS = types.ListToolsResult(
    tools=[types.Tool(name=name, input_schema={"type": "object"}) for name in ("get_context", "log_event")]
)


async def _call_tool(_context: object, _params: types.CallToolRequestParams) -> types.CallToolResult:
    return _RESULT


async def _list_tools(_context: object, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    return _TOOLS


def _input_schema(_name: str) -> dict[str, object]:
    return {"type": "object"}


if __name__ == "__main__":
    server = Server(
        "noop",
        version="0",
        on_call_tool=_call_tool,
        on_list_tools=_list_tools,
        get_tool_input_schema=_input_schema,
    )
    gc.freeze()
    uvicorn.run(
        server.streamable_http_app(stateless_http=True, json_response=True),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        http="h11",
        log_level="error",
        access_log=False,
        timeout_keep_alive=75,
    )
