"""Whatever bytes come over HTTP: each request is answered, by no server error, and nothing is left of it."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import httpx2
import psutil
import pytest
from tests.acceptance.ledger import wait_until
from tests.fuzz.fuzzing import INPUTS, SEED, Surface, fuzz
from tests.fuzz.http_exchange import Answer, exchange
from tests.fuzz.test_fuzz_stdio import FORBIDDEN, METHODS, TOKENS
from tests.http.http_server import LEGACY, MODERN, HttpServer, call, request
from tests.http.people import new_token

BLOCKS = 10 if INPUTS else 1
"""After each, the server is looked at."""

BOUND_S = 5.0
"""For a valid call after each block; usual ones take 2 ms, on a machine that has nothing else to do."""

GROWTH = 16 * 2**20
"""Bytes that the server's memory may gain after the first block: some 3 MiB are usual, and 45,000 requests follow, so
that 400 bytes left of each would be too many."""

SPARE = 3
"""Descriptors that come and go with the work: a segment, a thread's connection to state.db, a probe of the spool."""

HEADERS = b"""\
content-length: 0
content-length: 99999999999
content-length: -1
content-length: 1, 2
transfer-encoding: chunked
transfer-encoding: gzip
connection: close
connection: upgrade\r\nupgrade: websocket
upgrade: h2c
expect: 100-continue
host: evil.example
host: localhost
origin: null
authorization: Bearer
accept: text/html
content-type: text/plain
content-encoding: gzip
mcp-method: x
mcp-name: x
mcp-param-a: b
mcp-protocol-version: 2099-01-01""".split(b"\n")

HTTP_TOKENS = [
    *(b"\r\n%b\r\n" % line for line in HEADERS),
    *b"GET |PUT |CONNECT | HTTP/1.1\r\n|HTTP/1.0|HTTP/2.0|/../|%00|%2f|//|*|http://evil.example/mcp|: |\t|\r\n".split(
        b"|"
    ),
    *b"0\r\n\r\n|ffffffffffffffff\r\n|1;x=y\r\n|Basic |slt_|2024-11-05|; charset=utf-16|\r\n\r\n|\n\n".split(b"|"),
    b"a: b\r\n" * 4000,
    b"x: %b\r\n" % (b"y" * 40_000),
]

ODD: list[Any] = [
    *(None, True, 0, -1, 2**70, 1.5, 1e308, float("nan"), "", "\ud800", "\0", "\u2028"),
    *([], {}, [[]], {"a": [None]}, ["x"] * 2000),
]
"""Values that are of another type than expected, or at its end."""

CUSTOMER = "acme"


class Target:
    """The server, with somebody who may call it."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.address = (server.host, server.port)
        file = server.ledger.home / "tokens.json"
        self.token = new_token(file, "caller", CUSTOMER, "globex")
        self.metrics = new_token(file, "scraper", None, scope="metrics")
        self.process = psutil.Process(server.process.pid)
        self.acked: set[str] = set()

    def outcome(self, answers: list[Answer]) -> str:
        for answer in answers:
            assert answer.status < 500, answer
            assert not any(words in answer.body for words in FORBIDDEN), answer
            if answer.status == 200 and answer.content_type == b"application/json" and answer.body:
                self._acknowledged(answer.body)
        return "no answer due" if not answers else f"{answers[-1].status // 100}xx"

    def _acknowledged(self, body: bytes) -> None:
        result = json.loads(body).get("result")
        if result and "event_id" in (result.get("structuredContent") or {}):
            self.acked.add(result["structuredContent"]["event_id"])

    def look(self, descriptors: int) -> int:
        """The bytes it has in memory, once it has let go of all connections and answered a call."""
        wait_until(lambda: self.process.num_fds() <= descriptors, "the server lets go of its connections")
        with httpx2.Client(timeout=BOUND_S) as client:
            answer = call(client, self.server.mcp, MODERN, "get_context", {}, authorization=f"Bearer {self.token}")
            assert answer.json()["result"]["isError"] is False
        return int(self.process.memory_info().rss)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    # Without an uploader events become old.
    more = {"SNOWLEDGER_HTTP_RATE_PER_S": "1000000", "SNOWLEDGER_BACKPRESSURE_THRESHOLD_MS": str(10**9)}
    server = HttpServer(tmp_path_factory.mktemp("fuzzed"), **more)
    try:
        yield Target(server)
    finally:
        server.close()


def message(headers: dict[str, str], body: bytes = b"", start: str = "POST /mcp", *, chunked: bool = False) -> bytes:
    """The bytes of one request."""
    lines = [f"{start} HTTP/1.1", "host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    if chunked:
        lines.append("transfer-encoding: chunked")
        half = len(body) // 2
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:half], body[half:], b""))
    elif body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + body


def calls(token: str) -> list[tuple[dict[str, str], bytes]]:
    """Headers and bodies of good requests of both eras."""
    found = []
    for era in (LEGACY, MODERN):
        for method, params in [*METHODS, ("initialize", {}), ("server/discover", {}), ("subscriptions/listen", {})]:
            headers, body = request(method, era, **params)
            found.append(({**headers, "authorization": f"Bearer {token}"}, json.dumps(body).encode()))
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    return [*found, *((headers, json.dumps(note).encode()) for headers, _ in (found[0], found[-1]))]


def wire(target: Target) -> Surface:
    """All that is sent is changed: heads, lengths, bodies, several requests in one go."""
    good = calls(target.token)
    scraper = {"authorization": f"Bearer {target.metrics}"}
    messages = [message(headers, body) for headers, body in good]
    seeds = [
        *messages,
        *(message(headers, body, chunked=True) for headers, body in good[::3]),
        *(first + second for first, second in zip(messages[::5], messages[2::5], strict=False)),
        *(message(scraper, start=f"GET /{path}") for path in ("healthz", "readyz", "metrics", "metrics?name[]=up")),
        *(message(good[0][0], start=f"{method} /mcp") for method in ("GET", "DELETE", "OPTIONS", "HEAD")),
        message({**good[0][0], "expect": "100-continue", "mcp-session-id": "a1b2c3d4"}, good[0][1]),
        message({**good[-1][0], "mcp-param-x": "1", "origin": "http://localhost"}, good[-1][1]),
        message({**scraper, "accept": "application/openmetrics-text; version=1.0.0"}, start="GET /metrics"),
        b"GET /healthz HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n",
    ]

    def run(data: bytes) -> str:
        return target.outcome(exchange(target.address, data))

    return Surface(seeds, [*TOKENS, *HTTP_TOKENS], run)


def bodies(target: Target) -> Surface:
    """The body alone is changed; its head fits it, so that the protocol gets to see it."""
    good = calls(target.token)
    heads = {body: headers for headers, body in good}
    seeds = list(heads)

    def run(data: bytes) -> str:
        random = Random(data)
        seed = data if data in heads else random.choice(seeds)
        body = seed if seed == data else random.choice([data, grafted(seed, data, random)])
        return target.outcome(exchange(target.address, message(heads[seed], body, chunked=random.random() < 0.3)))

    return Surface(seeds, TOKENS, run)


def grafted(seed: bytes, data: bytes, random: Random) -> bytes:
    """The seed's JSON with the input as one of its values: most that was changed is no JSON any more."""
    tree = json.loads(seed)
    places = [tree]
    for place in places:
        places += [member for member in place.values() if isinstance(member, dict) and member]
    place = random.choice(places)
    place[random.choice([*place, "x"])] = random.choice([data.decode("latin-1"), *ODD])
    return json.dumps(tree).encode()


@pytest.mark.parametrize("surface", [wire, bodies])
def test_whatever_is_sent_each_request_is_answered_and_nothing_is_left_of_it(
    target: Target, surface: Callable[[Target], Surface]
) -> None:
    tried = surface(target)
    outcomes = Counter(tried.run(seed) for seed in tried.seeds)  # what is opened once, is now
    descriptors = target.process.num_fds() + SPARE
    levels = []
    for block in range(BLOCKS):
        outcomes += fuzz(tried, inputs=INPUTS // 2 // BLOCKS, seed=SEED + block)
        levels.append(target.look(descriptors))
    print("memory after each block:", *(f"{level / 2**20:.1f}" for level in levels), "MiB")  # noqa: T201
    assert levels[-1] - levels[0] < GROWTH
    assert outcomes["2xx"]
    assert outcomes["4xx"]
    assert target.acked
    assert target.acked <= {event["activity_id"] for event in target.server.events()}
    assert not [line for line in target.server.ledger.errors.splitlines() if " INFO " not in line]
