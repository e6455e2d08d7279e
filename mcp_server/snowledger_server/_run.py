"""``snowledger serve``: the spool, the writer and the stdio transport, from start to orderly end."""

from __future__ import annotations

import gc
import signal
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import anyio

from snowledger_queue import (
    OPERATIONAL_CUSTOMER,
    InvalidEventError,
    Origin,
    PressureLimits,
    check_customer,
    open_spool,
    server_presence,
)

from ._contexts import open_contexts
from ._identity import Caller, Identity
from ._journal import open_journal
from ._queries import open_queries
from ._server import build_server
from ._session import serve_stdio
from ._uploader_process import keep_uploader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from snowledger_queue import Spool

    from ._contexts import Contexts
    from ._journal import Journal
    from ._queries import Queries


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
    limits: PressureLimits = field(default_factory=PressureLimits)
    """How much may wait to be loaded, and what the disk must have left."""
    uploader_command: tuple[str, ...] | None = None
    """Starts an uploader that ends by itself; None where an operator runs one."""

    @property
    def identity(self) -> Identity:
        """Whose calls these are where nobody has to say who it is."""
        return Identity(self.customer, self.allowed_customers)

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
    anyio.run(_serve_stdio, config)


async def _serve_stdio(config: ServerConfig) -> None:
    async with open_parts(config) as (_, journal, contexts, queries):
        # One client for as long as the process runs.
        caller = Caller(config.identity, Origin(config.version, uuid.uuid4().hex))
        server = build_server(journal, contexts, queries, lambda _context: caller, config.version)
        await serve_stdio(server, leaving=queries.leave)


class Parts(NamedTuple):
    """What a server has, whatever its transport."""

    spool: Spool
    journal: Journal
    contexts: Contexts
    queries: Queries


@asynccontextmanager
async def open_parts(config: ServerConfig) -> AsyncIterator[Parts]:
    """What a server has, whatever its transport; at the end the queue is flushed and sealed.

    Raises:
        snowledger_queue.SpoolError: the spool cannot be used.
    """
    spool = open_spool(config.home)
    with (
        server_presence(spool),
        open_contexts(spool, config.context_max_age_s) as contexts,
        open_queries(spool, config.templates_dir, config.duckdb_database) as queries,
    ):
        origin = Origin(config.version, uuid.uuid4().hex)
        async with open_journal(spool, config.limits, origin) as journal, anyio.create_task_group() as tasks:
            if config.uploader_command is not None:
                tasks.start_soon(keep_uploader, spool, config.uploader_command, name="uploader keeper")
            yield Parts(spool, journal, contexts, queries)
            tasks.cancel_scope.cancel()
            # Only flushing and sealing are left; an impatient second signal must not cut them short.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
