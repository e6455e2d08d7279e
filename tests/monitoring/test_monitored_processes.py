"""The real server and the real uploader on one spool, asked how they go; and the rules that are made of it."""

import importlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from tests.acceptance.ledger import wait_until
from tests.http.http_server import LEGACY, MODERN, HttpServer, call
from tests.monitoring.scrape import Scrape, get, scrape
from tests.server.server_samples import EVENT

from snowledger_queue import read_uploader_status

ROOT = Path(__file__).parents[2]
CANARY = "Canary5e1f9a"
PROMISED = ("snowledger_", "process_")


class Both(NamedTuple):
    server: HttpServer
    mcp_token: str
    metrics_token: str
    uploader_url: str

    def of_server(self) -> Scrape:
        return scrape(self.server.url, Authorization=f"Bearer {self.metrics_token}")

    def of_uploader(self) -> Scrape:
        return scrape(self.uploader_url)


def lives(url: str) -> bool:
    try:
        return get(f"{url}/healthz").status == 200
    except OSError:  # sent away before it had asked
        return False


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    server = HttpServer(tmp_path_factory.mktemp("monitored"), SNOWLEDGER_LOG_LEVEL="debug")
    ledger = server.ledger
    mcp_token = ledger.run("token", "add", "laptop", "--customer", "acme").stdout.strip()
    metrics_token = ledger.run("token", "add", "prometheus", "--scope", "metrics").stdout.strip()
    uploader = ledger.start("upload", "--monitor", "127.0.0.1:0")
    words = re.compile(r"/metrics are on (127\.0\.0\.1:\d+)\n")
    wait_until(lambda: words.search(ledger.errors), "the monitor listens")
    found = words.search(ledger.errors)
    assert found is not None
    yield Both(server, mcp_token, metrics_token, f"http://{found[1]}")
    uploader.terminate()
    assert uploader.wait(10) == 0
    server.close()


@pytest.fixture(scope="module")
def told(both: Both) -> tuple[Scrape, Scrape]:
    """What both say after some calls, a batch and a query."""
    authorization = f"Bearer {both.mcp_token}"
    url = both.server.mcp
    with httpx2.Client(timeout=20) as client:

        def ask(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
            response = call(client, url, LEGACY, tool, arguments, authorization=authorization)
            return dict(response.json()["result"])

        ask("log_event", EVENT)
        ask("log_event", {"activity": "no", "feature_json": {}})
        for _ in range(3):
            ask("get_context", {})
        ticket = ask("submit_query", {"template": "activity_counts"})["structuredContent"]["ticket_id"]
        ended = ask("get_result", {"ticket_id": ticket, "wait_s": 20})["structuredContent"]
        assert ended["status"] == "succeeded"
        assert call(client, url, MODERN, "log_event", EVENT).status_code == 401
        assert client.get(f"{url}?token=CANARY", headers={"authorization": authorization}).status_code == 405
        assert client.get(url, headers={"host": "rebound.example"}).status_code == 421
    spool = both.server.ledger.spool
    wait_until(lambda: (status := read_uploader_status(spool)) and status.inserted >= 1, "the event is loaded")
    wait_until(lambda: both.of_uploader().value("snowledger_query_seconds_count") == 1, "the query is counted")
    return both.of_server(), both.of_uploader()


def test_anybody_may_ask_whether_the_server_lives_and_is_ready_but_not_for_its_metrics(both: Both) -> None:
    url = both.server.url
    assert get(f"{url}/healthz").json == {"status": "ok"}
    assert get(f"{url}/readyz").json == {"status": "ready"}
    refused = get(f"{url}/metrics")
    assert refused.status == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    wrong = get(f"{url}/metrics", Authorization=f"Bearer {both.mcp_token}")
    assert (wrong.status, wrong.text) == (refused.status, refused.text)
    assert get(f"{url}/healthz", Host="rebound.example").status == 421


def test_why_a_server_is_not_ready_is_said_in_words_for_anybody(tmp_path: Path) -> None:
    server = HttpServer(tmp_path / "full", SNOWLEDGER_MAX_QUEUE_BYTES="100", SNOWLEDGER_HTTP_MAX_CONNECTIONS="8")
    ledger = server.ledger

    def reasons() -> list[str]:
        answer = get(f"{server.url}/readyz")
        assert answer.status == (503 if "reasons" in answer.json else 200)
        return list(answer.json.get("reasons", []))

    assert scrape(server.url).value("snowledger_backpressure_state", state="normal") == 1
    with httpx2.Client(timeout=20) as client:
        for _ in range(2):
            call(client, server.mcp, LEGACY, "log_event", EVENT)
    assert reasons() == ["events are refused for want of room"]
    told = scrape(server.url)
    assert told.value("snowledger_backpressure_state", state="refusing") == 1
    assert told.value("snowledger_backpressure_state") == 1
    assert told.value("snowledger_refused_total") == 1
    assert told.value("snowledger_call_seconds_count", tool="log_event", outcome="unavailable") == 1

    silent = [socket.create_connection((server.host, server.port)) for _ in range(5)]  # one address may have four
    assert silent[-1].recv(12) == b"HTTP/1.1 503"
    for connection in silent:
        connection.close()
    wait_until(lambda: lives(server.url), "there is room again")
    assert scrape(server.url).value("snowledger_http_connections_ended_total", reason="too many") >= 1

    (ledger.home / "tokens.json").write_text("{")
    (ledger.home / "tokens.json").chmod(0o600)
    wait_until(lambda: "the tokens cannot be used" in reasons(), "the tokens are looked at")
    ledger.spool.queue.rename(ledger.home / "elsewhere")
    wait_until(lambda: "the spool cannot be written" in reasons(), "the spool is tried")
    (ledger.home / "elsewhere").rename(ledger.home / "queue")
    (ledger.home / "tokens.json").write_text('{"format": 1, "tokens": []}')
    wait_until(lambda: "the spool cannot be written" not in reasons(), "it recovers by itself")
    assert str(ledger.home) not in get(f"{server.url}/readyz").text
    assert not list(ledger.spool.queue.glob(".probe*"))
    server.close()


def test_calls_are_timed_by_tool_and_by_how_they_ended(told: tuple[Scrape, Scrape]) -> None:
    server, _ = told
    count = "snowledger_call_seconds_count"
    assert server.value(count, tool="log_event", outcome="ok") == 1
    assert server.value(count, tool="log_event", outcome="refused") == 1
    assert server.value(count, tool="get_context", outcome="ok") == 3
    assert server.value(count, outcome="failed") == 0
    assert server.value("snowledger_call_seconds_bucket", tool="get_result", le="25.0", outcome="ok") == 1
    assert 0 < server.value("snowledger_call_seconds_sum", tool="get_context") < 3
    assert server.value("snowledger_context_cache_total") == 3
    assert server.value("snowledger_context_cache_total", result="hit") >= 1
    assert 0 < server.value("snowledger_first_answer_seconds") < 30
    assert abs(server.value("snowledger_start_time_seconds") - server.value("process_start_time_seconds")) < 5


def test_what_the_guards_refused_is_counted_by_reason(told: tuple[Scrape, Scrape]) -> None:
    server, _ = told
    for reason in ("unauthenticated", "method", "host"):
        assert server.value("snowledger_http_rejections_total", reason=reason) >= 1, reason
    assert server.value("snowledger_http_rejections_total", reason="rate") == 0


def test_batches_queries_and_their_times_are_counted(told: tuple[Scrape, Scrape]) -> None:
    _, uploader = told
    assert uploader.value("snowledger_batches_total") >= 1
    assert uploader.value("snowledger_events_loaded_total") >= 1
    assert uploader.value("snowledger_lag_seconds_count") == uploader.value("snowledger_batches_total")
    assert uploader.value("snowledger_query_seconds_count", outcome="succeeded") == 1
    assert uploader.value("snowledger_query_credits_per_hour") > 0
    assert uploader.value("snowledger_breaker_state", state="closed") == 1
    assert uploader.value("snowledger_breaker_state") == 1
    assert uploader.value("snowledger_uploader_state") == 1
    assert uploader.value("snowledger_contexts_problem") == 0
    assert uploader.value("snowledger_retries_total") == 0


def test_both_tell_the_same_of_the_spool(told: tuple[Scrape, Scrape]) -> None:
    for found in told:
        assert found.value("snowledger_tickets", status="succeeded") == 1
        assert found.value("snowledger_uploader_running") == 1
        assert found.value("snowledger_servers") == 1
        assert found.value("snowledger_kill_switch_on") == 0
        assert found.value("process_open_fds") > 0


def test_nobody_can_be_told_from_a_metric(both: Both, told: tuple[Scrape, Scrape]) -> None:
    for found in told:
        assert {name for sample in found.samples for name in sample.labels} <= {
            *("tool", "outcome", "reason", "state", "status", "class", "result", "le", "version"),
        }
        for secret in ("acme", both.mcp_token, both.metrics_token, str(both.server.ledger.home)):
            assert secret not in found.text


def test_no_token_is_in_what_the_server_says_or_leaves_behind(both: Both, told: tuple[Scrape, Scrape]) -> None:
    assert told
    url = both.server.url
    secrets = [both.mcp_token, both.metrics_token, *(f"slt_0123456789abcdef_{CANARY}{number}" for number in range(3))]
    get(f"{url}/metrics?token={secrets[2]}", Authorization=f"Bearer {secrets[3]}")
    get(f"{url}/{secrets[4]}", Authorization=f"Basic {CANARY}", Cookie=f"session={CANARY}")
    get(f"{url}/readyz", Authorization=f"Bearer {secrets[0]}")
    ledger = both.server.ledger
    said = [ledger.errors, both.of_server().text, both.of_uploader().text, get(f"{url}/readyz").text]
    said += [ledger.run("status").stdout, ledger.run("token", "list", "--json").stdout, ledger.run("doctor").stdout]
    said += [" ".join(process.cmdline()) for process in ledger.processes()]
    assert len(ledger.processes()) >= 2
    for secret in (CANARY, *(secret.split("_", 2)[2] for secret in secrets)):
        assert secret not in "\n".join(said)
        for path in (path for path in ledger.folder.rglob("*") if path.is_file()):
            assert secret.encode() not in path.read_bytes(), path


def test_every_metric_says_what_it_is_in_base_units(told: tuple[Scrape, Scrape]) -> None:
    for found in told:
        for name, documentation in found.documentation.items():
            assert name.startswith(PROMISED), name
            assert documentation, name
            assert not re.search(r"_(ms|milliseconds|kb|kib|mb|mib|percent)(_|$)", name), name


def test_the_rules_name_only_what_is_told_and_have_a_runbook(told: tuple[Scrape, Scrape]) -> None:
    samples = [sample for found in told for sample in found.samples]
    names = {sample.name for sample in samples}
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    yaml: Any = importlib.import_module("yaml")
    rules = [
        rule
        for group in yaml.safe_load((ROOT / "docs" / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    ]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        for name, matchers in re.findall(r"\b((?:snowledger|process)_\w+)(?:\{([^}]*)\})?", rule["expr"]):
            assert name in names, (rule["alert"], name)
            assert not name.startswith("process_"), "a service that may not see all of /proc tells none of these"
            for label, kind, value in re.findall(r'(\w+)(=~?)"([^"]*)"', matchers):
                values = {sample.labels.get(label) for sample in samples if sample.name == name}
                wanted = set(value.split("|")) if kind == "=~" else {value}
                assert wanted <= values, (rule["alert"], name, label)
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page == "docs/runbooks.md"
        assert anchor in anchors, rule["alert"]
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
