"""The floor of ``bench.latency``: a tool that does nothing, behind the same transport as the real server."""

from __future__ import annotations

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server

from snowledger_server import serve_stdio

_RESULT = types.CallToolResult(
    content=[types.TextContent(type="text", text='{"ok":true}')], structured_content={"ok": True}
)


async def _call_tool(_context: object, _params: types.CallToolRequestParams) -> types.CallToolResult:
    return _RESULT


if __name__ == "__main__":
    anyio.run(serve_stdio, Server("noop", version="0", on_call_tool=_call_tool))
