"""How the stdio server ends: what runs is answered, and nobody can hold it up."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable

import pytest
from tests.server.stdio_wire import (
    CANCEL_1,
    EXIT_S,
    PATIENCE_S,
    Server,
    call,
    promptly,
    request,
    text,
    wait_until,
)

from snowledger_server._session import DRAIN_S, MAX_IN_FLIGHT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and non-blocking pipes are POSIX")


def in_a_call(start: Callable[..., Server], *arguments: str, seconds: float) -> Server:
    """A server that has begun a slow call, with the id 1."""
    server = start(*arguments)
    server.handshake()
    server.send(call(1, "slow", seconds=seconds))
    server.wait_for_log("slow begins")
    return server


@pytest.mark.parametrize("how", ["EOF", "SIGTERM", "SIGINT", "stop event"])
@promptly
def test_a_running_call_is_answered_before_the_server_leaves(start: Callable[..., Server], how: str) -> None:
    server = in_a_call(start, *(["stop"] if how == "stop event" else []), seconds=0.3)
    since = time.time()
    if how == "EOF":
        assert server.process.stdin is not None
        server.process.stdin.close()
    elif how != "stop event":
        server.process.send_signal(signal.Signals[how])
    assert [text(reply) for reply in server.rest()] == ["slept"]
    server.leaves_within(EXIT_S, since)


@promptly
def test_a_call_longer_than_the_limit_is_answered_with_an_error(start: Callable[..., Server]) -> None:
    server = in_a_call(start, seconds=60)
    since = time.time()
    server.process.send_signal(signal.SIGTERM)
    (reply,) = server.rest()
    assert reply["id"] == 1
    assert reply["error"]["message"] == "Connection closed"
    server.leaves_within(EXIT_S, since)


@promptly
def test_a_second_signal_ends_the_waiting(start: Callable[..., Server]) -> None:
    server = in_a_call(start, seconds=60)
    since = time.time()
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGINT)  # a different one: two equal ones may merge
    server.leaves_within(DRAIN_S / 2, since)


@promptly
def test_a_signal_after_the_end_of_input_changes_nothing(start: Callable[..., Server]) -> None:
    server = in_a_call(start, seconds=0.3)
    since = time.time()
    assert server.process.stdin is not None
    server.process.stdin.close()
    server.process.send_signal(signal.SIGTERM)
    assert [text(reply) for reply in server.rest()] == ["slept"]
    server.leaves_within(EXIT_S, since)


@promptly
def test_a_cancelled_call_is_not_waited_for(start: Callable[..., Server]) -> None:
    server = in_a_call(start, seconds=60)
    server.send(CANCEL_1, request(2, "ping"))
    assert server.receive()["id"] == 2
    since = time.time()
    server.process.send_signal(signal.SIGTERM)
    assert server.rest() == []
    server.leaves_within(DRAIN_S / 2, since)


@promptly
def test_calls_finish_when_the_client_has_closed_its_side(start: Callable[..., Server]) -> None:
    server = in_a_call(start, seconds=0.3)
    assert server.process.stdout is not None
    server.process.stdout.close()
    since = time.time()
    server.send(request(2, "ping"))
    server.leaves_within(EXIT_S, since)
    assert "slow ends" in server.log


@promptly
def test_a_client_that_does_not_read_cannot_hold_the_server_up(start: Callable[..., Server]) -> None:
    server = start()
    server.handshake()
    server.send(*(call(i, "big", size=100_000) for i in range(1, 50)), call(99, "slow", seconds=60))
    server.wait_for_log("slow begins")
    since = time.time()
    server.process.send_signal(signal.SIGTERM)
    server.leaves_within(EXIT_S, since)


def test_no_more_calls_are_begun_than_can_be_finished_at_the_end(server: Server) -> None:
    server.send(*(call(i, "slow", seconds=60) for i in range(1, 2 * MAX_IN_FLIGHT)))
    wait_until(lambda: server.log.count("slow begins") >= MAX_IN_FLIGHT)
    server.process.send_signal(signal.SIGTERM)
    assert {reply["id"] for reply in server.rest()} == set(range(1, MAX_IN_FLIGHT + 1))


def test_an_error_at_start_reaches_the_caller_as_it_is(start: Callable[..., Server]) -> None:
    server = start("fail")
    assert server.process.wait(PATIENCE_S) == 1
    assert server.log == "start-up failed: no spool\n"
