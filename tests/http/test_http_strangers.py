"""Who is let in, at every endpoint: a stranger learns nothing, not even what was wrong with its token."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.cli.cli_process import Cli
from tests.http.http_server import LEGACY, MODERN, HttpServer, call, request
from tests.http.people import Wire, credentials, new_token, shown
from tests.server.server_samples import EVENT

from snowledger_server import revoke_token

METHODS = ["initialize", "server/discover", "ping", "tools/list", "tools/call", "resources/list", "resources/read", "x"]

OPEN = {"/healthz": 200, "/readyz": 200, "/nothing": 404, "/": 404}


@pytest.fixture(scope="module")
def strangers(server: HttpServer) -> dict[str, dict[str, str]]:
    """Headers, by what is wrong with them."""
    found = credentials(server.ledger.home / "tokens.json")
    return {name: {} if value is None else {"authorization": value} for name, value in found.items()}


@pytest.fixture
def _nothing_written(server: HttpServer) -> Iterator[None]:
    before = server.events()
    yield
    assert server.events() == before


@pytest.mark.usefixtures("_nothing_written")
@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_no_method_answers_a_stranger_and_all_of_them_get_the_same(
    server: HttpServer, client: httpx2.Client, strangers: dict[str, dict[str, str]], era: str
) -> None:
    tried: list[tuple[str, dict[str, str]]] = [(method, {}) for method in METHODS] + [
        ("tools/call", headers) for headers in strangers.values()
    ]
    answers = []
    for method, more in tried:
        headers, body = request(method, era, name="log_event", arguments=EVENT)
        answers.append(client.post(server.mcp, headers={**headers, **more}, json=body))
    answers += [client.get(server.mcp, headers=more) for more in strangers.values()]
    answers += [client.post(server.mcp, headers=more, content=b"\xff" * 10) for more in strangers.values()]
    assert {str(shown(answer)) for answer in answers} == {str(shown(answers[0]))}
    assert answers[0].status_code == 401
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert answers[0].text == "A valid bearer token is needed.\n"


def test_metrics_are_for_a_token_of_their_own(
    server: HttpServer, client: httpx2.Client, strangers: dict[str, dict[str, str]]
) -> None:
    good = {"authorization": f"Bearer {new_token(server.ledger.home / 'tokens.json', 'tools', 'acme')}"}
    refused = [
        client.get(f"{server.url}/metrics", headers=headers)
        for name, headers in (*strangers.items(), ("tools", good))
        if name != "metrics"
    ]
    assert {str(shown(answer)) for answer in refused} == {str(shown(refused[0]))}
    assert refused[0].status_code == 401
    answer = client.get(f"{server.url}/metrics", headers=strangers["metrics"])
    assert answer.status_code == 200
    assert "snowledger_" in answer.text
    assert "acme" not in answer.text


def test_what_is_open_to_all_says_the_same_to_all(
    server: HttpServer, client: httpx2.Client, strangers: dict[str, dict[str, str]]
) -> None:
    good = {"authorization": f"Bearer {new_token(server.ledger.home / 'tokens.json', 'health', 'acme')}"}
    for path, status in OPEN.items():
        answers = [client.get(f"{server.url}{path}", headers=headers) for headers in (good, *strangers.values())]
        assert [answer.status_code for answer in answers] == [status] * len(answers), path
        assert len({str(shown(answer)) for answer in answers}) == 1
        assert str(server.ledger.home) not in answers[0].text
        assert "acme" not in answers[0].text


def test_a_revoked_token_is_worth_nothing_from_the_next_request_on(server: HttpServer, client: httpx2.Client) -> None:
    file = server.ledger.home / "tokens.json"
    wire = Wire(server, client, MODERN, new_token(file, "short", "acme"))
    assert wire.call("get_context", {}).status_code == 200
    revoke_token(file, "short")
    assert wire.call("get_context", {}).status_code == 401


def test_a_token_that_expires_is_worth_nothing_from_then_on(server: HttpServer, client: httpx2.Client) -> None:
    wire = Wire(server, client, LEGACY, new_token(server.ledger.home / "tokens.json", "brief", "acme", days=1 / 86_400))
    assert wire.call("get_context", {}).status_code == 200
    deadline = time.monotonic() + 10
    while wire.call("get_context", {}).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_while_the_file_is_damaged_nobody_is_let_in_and_readiness_says_so(
    server: HttpServer, client: httpx2.Client
) -> None:
    file = server.ledger.home / "tokens.json"
    wire = Wire(server, client, MODERN, new_token(file, "steady", "acme"))
    good = file.read_bytes()
    file.write_bytes(good[:-30])
    try:
        assert wire.call("get_context", {}).status_code == 401
        assert call(client, server.mcp, MODERN, "get_context", {}).status_code == 401
        ready = client.get(f"{server.url}/readyz")
        assert ready.status_code == 503
        assert "tokens" in ready.text
        assert str(file) not in ready.text
        assert client.get(f"{server.url}/healthz").status_code == 200
    finally:
        file.write_bytes(good)
    assert wire.call("get_context", {}).status_code == 200
    assert client.get(f"{server.url}/readyz").status_code == 200
    assert len(re.findall(r"nobody is let in: .*tokens\.json", server.ledger.errors)) == 1


def test_tokens_are_nowhere_in_what_the_server_wrote(server: HttpServer, strangers: dict[str, dict[str, str]]) -> None:
    secrets = [secret for one in strangers.values() for secret in re.findall(r"_([0-9a-f]{64})", str(one))]
    assert len(secrets) == 7
    kept = server.ledger.errors + "".join(
        path.read_text(errors="replace") for path in server.ledger.home.rglob("*") if path.is_file()
    )
    assert [secret for secret in secrets if secret in kept] == []


def test_a_server_that_others_reach_through_a_proxy_does_not_start_without_tokens(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    serve = ("serve", "--http", "127.0.0.1:0", "--no-uploader")
    refused = cli.run(*serve, code=3, SNOWLEDGER_HTTP_ALLOWED_HOSTS="localhost,ledger.example.com")
    assert refused.stderr.startswith("snowledger: ledger.example.com can be reached by other machines")
    assert "make one with 'snowledger token add NAME --customer ID'" in refused.stderr
    assert not cli.home.exists()
