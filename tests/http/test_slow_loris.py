"""Hundreds of clients that send next to nothing do not hold up the others."""

import socket
import statistics
import threading
import time
from contextlib import suppress

import httpx2
from tests.http.http_server import MODERN, HttpServer, tool_call

SLOW = 500
CALLS = 150


def p95(server: HttpServer) -> float:
    with httpx2.Client(timeout=20) as client:
        taken = []
        for _ in range(CALLS):
            begun = time.perf_counter()
            assert client.post(server.mcp, **tool_call(MODERN, "get_context", {})).status_code == 200
            taken.append(time.perf_counter() - begun)
    return statistics.quantiles(taken, n=20)[-1]


def test_five_hundred_slow_clients_hold_nobody_up(server: HttpServer) -> None:
    p95(server)
    alone = min(p95(server) for _ in range(2))
    slow = [socket.create_connection((server.host, server.port)) for _ in range(SLOW)]
    stop = threading.Event()

    def dribble() -> None:
        for number, client in enumerate(slow):
            client.send(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\n" + b"content-length: 99\r\n\r\n" * (number % 2))
        while not stop.wait(0.5):
            for client in slow:
                with suppress(OSError):  # its time is over
                    client.send(b"x")

    thread = threading.Thread(target=dribble)
    thread.start()
    try:
        beside = min(p95(server) for _ in range(2))
    finally:
        stop.set()
        thread.join()
        for client in slow:
            client.close()
    # By half at most, on a quiet machine; one that is busy with something else may double it.
    assert beside < 3 * alone + 0.01, (beside, alone)
