"""The server that test_stdio_wire.py runs: a few tools without any of the product, over `serve_stdio`.

Arguments: `fail` makes the start fail, `stop` sets the stop event as soon as the slow tool runs.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import sys
import warnings
from collections.abc import AsyncIterator
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server

from snowledger_server._session import serve_stdio

stop = anyio.Event()


def note(words: str) -> None:
    sys.stderr.write(words + "\n")
    sys.stderr.flush()


async def run_tool(name: str, arguments: dict[str, Any]) -> str:
    match name:
        case "echo":  # the arguments as ASCII, whatever they hold
            return json.dumps(arguments)
        case "raw":  # the argument as it is
            return str(arguments["text"])
        case "big":
            return "x" * int(arguments["size"])
        case "slow":
            note("slow begins")
            if "stop" in sys.argv:
                stop.set()
            await anyio.sleep(arguments["seconds"])
            note("slow ends")
            return "slept"
        case "print":
            print("stray print", flush=arguments["flush"])  # noqa: T201
            os.write(1, b"stray write\n")
            child = "import sys; print('stray child read', len(sys.stdin.read()))"
            await anyio.run_process([sys.executable, "-c", child], stdin=None, stdout=None, stderr=None)
            return "printed"
    raise LookupError(name)


async def call_tool(
    _context: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
) -> types.CallToolResult:
    text = await run_tool(params.name, params.arguments or {})
    return types.CallToolResult(content=[types.TextContent(text=text)])


async def list_tools(
    _context: ServerRequestContext[Any, Any], _params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    names = ["echo", "raw", "big", "slow", "print"]
    return types.ListToolsResult(tools=[types.Tool(name=name, input_schema={"type": "object"}) for name in names])


async def slow_probe(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Keep a probe under way while the request behind it arrives."""
    if ctx.method == "server/discover":
        await anyio.sleep(0.05)
    return await call_next(ctx)


@contextlib.asynccontextmanager
async def lifespan(_server: Server[None]) -> AsyncIterator[None]:
    if "fail" in sys.argv:
        raise LookupError("no spool")
    note("lifespan begins")
    try:
        yield
    finally:
        note("lifespan ends")


async def main() -> None:
    server = Server("wire", version="1", lifespan=lifespan, on_list_tools=list_tools, on_call_tool=call_tool)
    server.middleware.append(slow_probe)
    await serve_stdio(server, stop=stop)


if __name__ == "__main__":
    warnings.simplefilter("error")
    logging.basicConfig(level=logging.INFO)
    gc.freeze()  # without it the interpreter takes 0.1 s at the end to collect what the imports made
    try:
        anyio.run(main)
    except LookupError as failure:
        sys.exit(f"start-up failed: {failure.args[0]}")
    except OSError as failure:
        sys.exit(f"start-up failed: {failure.strerror}")
