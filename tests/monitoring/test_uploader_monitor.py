"""The uploader's monitor: what it answers to whom, and that nobody can hold it up."""

import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, Gauge
from tests.monitoring.scrape import get, scrape

from snowledger_queue import BreakerStatus, UploaderStatus
from snowledger_uploader import MonitorError
from snowledger_uploader import _monitor as module
from snowledger_uploader._monitor import MAX_REQUESTS, Monitored, monitor
from snowledger_uploader._observed import unready

STATUS = UploaderStatus(pid=1, state="idle", updated_at="2026-11-21T04:00:00.000000Z")
OPEN = BreakerStatus("open", "2026-11-21T04:00:00.000000Z", 5, None, 1, 4)


@pytest.fixture
def reasons() -> list[str]:
    return []


@pytest.fixture
def url(reasons: list[str]) -> Iterator[str]:
    registry = CollectorRegistry()
    Gauge("snowledger_test", "A test.", registry=registry).set(7)
    with monitor(("127.0.0.1", 0), Monitored(registry, lambda: reasons)) as port:
        yield f"http://127.0.0.1:{port}"


def test_it_says_whether_it_lives_whether_it_is_ready_and_how_it_goes(url: str, reasons: list[str]) -> None:
    assert get(f"{url}/healthz").json == {"status": "ok"}
    assert (get(f"{url}/readyz").status, get(f"{url}/readyz").json) == (200, {"status": "ready"})
    assert scrape(url).value("snowledger_test") == 7
    reasons.append("starting")
    answer = get(f"{url}/readyz?x=1")
    assert (answer.status, answer.json) == (503, {"status": "not ready", "reasons": ["starting"]})
    assert get(f"{url}/healthz").status == 200
    assert get(f"{url}/elsewhere").status == 404
    assert "Python" not in answer.headers["Server"]


def test_a_page_cannot_reach_it_by_a_name_of_its_own(url: str) -> None:
    answer = get(f"{url}/metrics", Host="rebound.example")
    assert answer.status == 421
    assert "snowledger_test" not in answer.text
    port = url.rpartition(":")[2]
    for name in ("localhost", f"localhost:{port}", f"LOCALHOST:{port}", "127.0.0.1", f"[::1]:{port}"):
        assert get(f"{url}/metrics", Host=name).status == 200, name


ASK = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n", 405),
        (b"HEAD /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n", 405),
        (b"<script>alert(1)</script> /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"GET /metrics HTTP/x\r\n\r\n", 400),
        (b"\xff\xfe\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 200),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (ASK + b"host: \xff\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\nhost: \xff\r\n\r\n", 421),
        (ASK + b"accept: application/openmetrics-text; version=x\r\n\r\n", 200),
        (ASK + "accept: text/plain; version=\u0661.0.0\r\n\r\n".encode(), 200),
    ],
)
def test_whatever_is_asked_it_answers_and_by_no_error_of_its_own(
    url: str, caplog: pytest.LogCaptureFixture, sent: bytes, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10) as wire:
        wire.sendall(sent)
        said = wire.makefile("rb").read()
    assert said.startswith(b"HTTP/1.0 %d " % status)
    assert b"<" not in said
    assert not caplog.records


def test_who_sends_a_byte_now_and_then_is_let_go_of_too(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_S", 0.3)
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=0.02) as wire:
        deadline = time.monotonic() + 3
        while True:
            assert time.monotonic() < deadline
            try:
                wire.sendall(b"G")
                if wire.recv(1) == b"":
                    break
            except TimeoutError:
                pass
            except ConnectionError:
                break


def test_who_sends_nothing_is_let_go_of_and_keeps_nobody_out_for_long(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._Handler, "timeout", 0.3)
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    silent = [socket.create_connection(address, timeout=10) for _ in range(MAX_REQUESTS)]
    with socket.create_connection(address, timeout=10) as refused:
        assert refused.recv(1) == b"", "it has its share of threads"
    for one in silent:
        assert one.recv(1) == b""
        one.close()
    deadline = time.monotonic() + 10
    while True:
        try:
            assert get(f"{url}/healthz").status == 200
            break
        except OSError:  # the thread of the last one has not ended yet
            assert time.monotonic() < deadline


def test_it_ends_at_once_whoever_is_connected() -> None:
    with monitor(("127.0.0.1", 0), Monitored(CollectorRegistry(), list)) as port:
        idle = socket.create_connection(("127.0.0.1", port), timeout=10)
        begun = time.monotonic()
    assert time.monotonic() - begun < 1
    idle.close()


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with (
            pytest.raises(MonitorError, match=rf"cannot listen on 127\.0\.0\.1:{port} \(monitor\)"),
            monitor(("127.0.0.1", port), Monitored(CollectorRegistry(), list)),
        ):
            pass


@pytest.mark.parametrize(
    ("status", "reasons"),
    [
        (STATUS, []),
        (replace(STATUS, state="loading"), []),
        (replace(STATUS, state="starting"), ["starting"]),
        (replace(STATUS, state="waiting", problem="/secret/path is locked"), ["the warehouse cannot be used now"]),
        (replace(STATUS, state="authentication needed", problem="user X"), ["authentication needed"]),
        (replace(STATUS, state="stopped"), ["shutting down"]),
        (replace(STATUS, breaker=OPEN), ["the circuit breaker is open"]),
        (replace(STATUS, breaker=replace(OPEN, state="closed")), []),
    ],
)
def test_why_it_is_not_ready_is_said_in_words_for_anybody(status: UploaderStatus, reasons: list[str]) -> None:
    assert unready(status) == reasons
