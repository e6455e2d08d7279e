from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.stdio_wire import Server

from snowledger_queue import ContextStore, RunnerTickets, Spool, open_spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return open_spool(tmp_path / "spool")


@pytest.fixture
def runner(spool: Spool) -> Iterator[RunnerTickets]:
    """What an uploader has of the tickets; it has made state.db."""
    runner = RunnerTickets(spool)
    runner.recover("2026-11-21T04:20:47.123456Z")
    yield runner
    runner.close()


@pytest.fixture
def store(spool: Spool) -> Iterator[ContextStore]:
    """What an uploader has open."""
    store = ContextStore.open(spool)
    yield store
    store.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def begin(*args: str, **streams: Any) -> Server:
        servers.append(Server(tmp_path, *args, **streams))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    """A server that has shaken hands."""
    begun = start()
    begun.handshake()
    return begun


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same for many tests: none of them may harm the connection."""
    begun = Server(tmp_path_factory.mktemp("lasting"))
    begun.handshake()
    yield begun
    begun.close()
