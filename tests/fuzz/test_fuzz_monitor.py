"""Whatever bytes come to the uploader's monitor: an answer, by no server error, and nothing is left of it."""

import io
import re
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path

import psutil
import pytest
from tests.acceptance.ledger import PATIENCE_S, Ledger, wait_until
from tests.fuzz.fuzzing import INPUTS, SEED, Surface, fuzz

BLOCKS = 10 if INPUTS else 1

GROWTH = 16 * 2**20
"""Bytes that the process may gain after the first block; 90,000 requests follow."""

MOST = 40
"""Descriptors and threads: 22 and 8 are usual."""

LINES = b"""\
host: localhost
host: 127.0.0.1:1
host: evil.example
accept: application/openmetrics-text; version=1.0.0; escaping=allow-utf-8
accept: text/plain; version=1.0.0; q=0.5, */*
content-length: 5
connection: keep-alive
expect: 100-continue
transfer-encoding: chunked""".split(b"\n")

TOKENS = [
    *(b"\r\n%b\r\n" % line for line in LINES),
    *b"GET |POST |HEAD | HTTP/1.1|HTTP/2.0|HTTP/0.9|/../|%00|//|http://evil.example/|\r\n|\r\n\r\n|version=|;|.".split(
        b"|"
    ),
    b"a: b\r\n" * 200,
    b"x" * 70_000,
]

SEEDS = [
    b"%b HTTP/1.1\r\n%b\r\n\r\n" % (start, b"\r\n".join(LINES[:1] + lines))
    for start in (b"GET /healthz", b"GET /readyz", b"GET /metrics", b"GET /metrics?x=1", b"POST /metrics", b"GET /")
    for lines in ([], LINES[3:4], LINES[4:6])
]


class ShownAnswer(io.BytesIO):
    """What HTTPResponse takes for a socket."""

    def makefile(self, *_: object) -> "ShownAnswer":
        return self


def surface(address: tuple[str, int]) -> Surface:
    def run(data: bytes) -> str:
        with socket.create_connection(address, timeout=PATIENCE_S) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            said = b""
            try:
                client.sendall(data)
                with suppress(OSError):  # it has been closed already
                    client.shutdown(socket.SHUT_WR)
                while piece := client.recv(65536):
                    said += piece
            except ConnectionError:
                # It reads one head, and what comes after that may cut its answer off.
                assert len(data) > 65536 or re.search(rb"\n\r?\n.", data, re.DOTALL)
                return "cut off"
        # Words are what the server's Latin-1 calls so.
        words = data.partition(b"\n")[0].decode("latin-1").split()
        if not words:
            assert not said
            return "nothing asked"
        answer = HTTPResponse(ShownAnswer(said), method=words[0])  # type: ignore[arg-type]  # has what is used of a socket
        answer.begin()
        content = answer.read()
        assert answer.status < 500 or (answer.status == 503 and b"not ready" in content), said
        assert not any(words in content for words in (b"Traceback", b"<"))
        return f"{answer.status // 100}xx"

    return Surface(SEEDS, TOKENS, run)


@pytest.fixture
def uploader(scratch: Path) -> Iterator[Ledger]:
    ledger = Ledger(scratch)
    yield ledger
    ledger.close()


def test_whatever_is_sent_to_the_monitor_is_answered_and_nothing_is_left_of_it(uploader: Ledger) -> None:
    process = uploader.start("upload", "--monitor", "127.0.0.1:0")
    shown = re.compile(r"/metrics are on (127\.0\.0\.1):(\d+)")
    wait_until(lambda: shown.search(uploader.errors), "the monitor listens")
    host, port = shown.findall(uploader.errors)[0]
    tried, seen = surface((host, int(port))), psutil.Process(process.pid)
    outcomes = Counter(tried.run(seed) for seed in tried.seeds)
    levels = []
    for block in range(BLOCKS):
        outcomes += fuzz(tried, inputs=INPUTS // BLOCKS, seed=SEED + block)
        wait_until(lambda: len(seen.net_connections()) == 1, "it lets go of all but the socket that listens")
        assert seen.num_fds() < MOST
        assert seen.num_threads() < MOST
        assert tried.run(b"GET /healthz HTTP/1.1\r\n\r\n") == "2xx"
        levels.append(seen.memory_info().rss)
    print("memory after each block:", *(f"{level / 2**20:.1f}" for level in levels), "MiB")  # noqa: T201
    assert levels[-1] - levels[0] < GROWTH
    assert outcomes["2xx"]
    assert outcomes["4xx"]
    assert not re.search(r"Traceback| ERROR | WARNING ", uploader.errors), uploader.errors
