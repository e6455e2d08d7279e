"""Runs the server; prints its port when it listens. It ends when its standard input does."""

import asyncio
import logging
import re
import socket
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.fake_snowflake.server import app, operations
from tests.fake_snowflake.server.account import Account
from tests.fake_snowflake.server.protocol import CuttableProtocol

_STATEMENTS = 64  # at once: more than tests have sessions


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    # sqlglot names every property of a table that DuckDB has no word for.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="Arrow output on a DB-API result")
    account = Account()
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0))
    # asyncio does so only for sockets that name their protocol; without it every reply waits 40 ms for a receipt.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        _one_slash(Starlette(routes=[*app.routes(account), *operations.routes(account)])),
        http=CuttableProtocol,
        loop="asyncio",
        lifespan="off",
        log_level="warning",
        access_log=False,
        # Connections are cut on order only.
        timeout_keep_alive=3600,
        timeout_graceful_shutdown=1,
    )
    asyncio.run(_serve(uvicorn.Server(config), account, listener))


async def _serve(server: uvicorn.Server, account: Account, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    # A statement takes a thread for as long as it runs or waits.
    loop.set_default_executor(ThreadPoolExecutor(_STATEMENTS))

    def stop_with_parent() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=stop_with_parent, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    await server.serve([listener])
    await account.close()


def _one_slash(application: ASGIApp) -> ASGIApp:
    """The driver writes some addresses with two slashes in a row."""

    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        await application({**scope, "path": re.sub("/+", "/", scope["path"])}, receive, send)

    return called


if __name__ == "__main__":
    main()
