"""Which names and origins a request may have: what a page of another name cannot get around (DNS rebinding)."""

from collections.abc import Callable

import httpx2
import pytest
from tests.http.http_server import LEGACY, MODERN, HttpServer, request
from tests.http.people import new_token


def status(server: HttpServer, path: str = "/mcp", era: str = MODERN, **headers: str) -> int:
    given, body = request("tools/list", era)
    with httpx2.Client() as client:
        if path == "/mcp":
            return client.post(server.url + path, headers={**given, **headers}, json=body).status_code
        return client.get(server.url + path, headers=headers).status_code


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_the_names_of_this_machine_are_accepted_with_any_port(server: HttpServer, era: str) -> None:
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", f"127.0.0.1:{server.port}", "[::1]:80", "[::1]"):
        assert status(server, era=era, host=host) == 200, host
    for origin in ("http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173"):
        assert status(server, era=era, origin=origin) == 200, origin


@pytest.mark.parametrize("path", ["/mcp", "/healthz", "/nothing"])
def test_any_other_name_is_refused_before_anything_is_read(server: HttpServer, path: str) -> None:
    for host in (
        *(
            "evil.example",
            "localhost.evil.example",
            "evil.example:80",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
        ),
        *("127.0.0.2", "[::2]", "::1", "localhost:x", "localhost:123456", "", "localhost,evil.example"),
    ):
        assert status(server, path, host=host) == 421, host
    for origin in (
        *("http://evil.example", "null", "http://localhost.evil.example", "file://localhost", "http://localhost/x"),
        *("http://evil.example#localhost", "http://user@localhost", "localhost", ""),
    ):
        assert status(server, path, origin=origin) == 403, origin


def test_further_names_and_origins_are_a_setting(start: Callable[..., HttpServer]) -> None:
    server = start(
        SNOWLEDGER_HTTP_ALLOWED_ORIGINS="https://app.example.com, http://other.example:8080",
    )
    assert status(server, origin="https://APP.example.com") == 200
    assert status(server, origin="http://other.example:8080") == 200
    assert status(server, origin="http://other.example") == 403
    assert status(server, host="app.example.com") == 421


@pytest.mark.parametrize("header", ["x-forwarded-for", "x-forwarded-host", "x-real-ip", "forwarded", "via"])
def test_what_comes_through_a_proxy_needs_a_token_whatever_its_host_says(server: HttpServer, header: str) -> None:
    for path in ("/mcp", "/metrics"):
        assert status(server, path, **{header: "203.0.113.9"}) == 403, path
    assert status(server, "/healthz", **{header: "203.0.113.9"}) == 200


def test_with_a_token_a_proxy_is_welcome(start: Callable[..., HttpServer]) -> None:
    server = start()
    token = new_token(server.ledger.home / "tokens.json", "a", "acme")
    assert status(server, via="1.1 proxy", authorization=f"Bearer {token}") == 200
    assert status(server, via="1.1 proxy") == 401
