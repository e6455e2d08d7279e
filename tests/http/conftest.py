from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from tests.http.http_server import HttpServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """One for all tests of a module: none of them may harm it."""
    started = HttpServer(tmp_path_factory.mktemp("http"), SNOWLEDGER_HTTP_RATE_PER_S="10000")
    yield started
    started.close()


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=20) as opened:
        yield opened


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., HttpServer]]:
    """Start servers of one's own."""
    servers: list[HttpServer] = []

    def begin(*arguments: str, **options: str) -> HttpServer:
        servers.append(HttpServer(tmp_path / str(len(servers)), *arguments, **options))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()
