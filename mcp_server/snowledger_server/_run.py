"""``snowledger serve``: the spool, the writer and the stdio transport, from start to orderly end."""

from __future__ import annotations

import gc
import signal
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from snowledger_queue import (
    OPERATIONAL_CUSTOMER,
    InvalidEventError,
    Origin,
    check_customer,
    open_spool,
    open_writer,
    server_presence,
)

from ._contexts import open_contexts
from ._identity import Identity
from ._queries import open_queries
from ._server import build_server
from ._session import serve_stdio
from ._tool import Journal
from ._uploader_process import keep_uploader

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """All that a server needs to know."""

    home: Path
    """The spool folder."""
    customer: str
    """The stdio identity."""
    version: str
    """snowledger's version, recorded on every event."""
    allowed_customers: frozenset[str] = frozenset()
    """Other customers that the identity may read and write."""
    context_max_age_s: float = 300.0
    """A context that was compared with the warehouse longer ago is marked stale."""
    templates_dir: Path | None = None
    """A folder with query templates of the user's own."""
    duckdb_database: str | None = None
    """DuckDB's name for its file; None where another warehouse is asked."""
    uploader_command: tuple[str, ...] | None = None
    """Starts an uploader that ends by itself; None where an operator runs one."""

    def __post_init__(self) -> None:
        """Raise ``snowledger_queue.InvalidEventError`` for a customer id that breaks the rules."""
        for customer in (self.customer, *self.allowed_customers):
            check_customer(customer)
            if customer == OPERATIONAL_CUSTOMER:
                raise InvalidEventError("customer", f"{customer} is snowledger's own; choose another")


def run(config: ServerConfig) -> None:
    """Serve MCP on stdin and stdout until the client goes or a signal comes; then flush, seal and return.

    Raises:
        snowledger_queue.SpoolError: the spool cannot be used.
    """
    # What is imported stays: the collector need not look at it again, and leaving takes 10 ms instead of 90.
    gc.freeze()
    anyio.run(_serve, config)


async def _serve(config: ServerConfig) -> None:
    spool = open_spool(config.home)
    journal_origin = Origin(config.version, uuid.uuid4().hex)
    identity = Identity(config.customer, config.allowed_customers)
    with (
        server_presence(spool),
        open_contexts(spool, config.context_max_age_s) as contexts,
        open_queries(spool, config.templates_dir, config.duckdb_database) as queries,
    ):
        async with open_writer(spool) as writer, anyio.create_task_group() as tasks:
            if config.uploader_command is not None:
                tasks.start_soon(keep_uploader, spool, config.uploader_command, name="uploader keeper")
            journal = Journal(writer, journal_origin)
            server = build_server(journal, contexts, queries, identity, config.version)
            await serve_stdio(server, leaving=queries.leave)
            tasks.cancel_scope.cancel()
            # Only flushing and sealing are left; an impatient second signal must not cut them short.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
