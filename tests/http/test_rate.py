"""A flood of calls is refused with the time to come back; others are not held up, and memory is bounded."""

from collections import Counter
from collections.abc import Callable

import anyio
import httpx2
from tests.http.http_server import LEGACY, MODERN, HttpServer, tool_call
from tests.server.server_samples import EVENT

from snowledger_server._http._rate import MAX_CLIENTS, Rates


def test_calls_are_taken_at_the_rate_and_twice_as_many_at_once() -> None:
    now = 100.0
    rates = Rates(5, lambda: now)
    taken = [rates.refusal("a") is None for _ in range(12)]
    assert taken == [True] * 10 + [False] * 2
    refused = rates.refusal("a")
    assert refused is not None
    assert (refused.status, refused.headers) == (429, ((b"retry-after", b"1"),))
    assert rates.refusal("b") is None
    now += 1
    assert [rates.refusal("a") is None for _ in range(6)] == [True] * 5 + [False]
    now += 3600
    assert [rates.refusal("a") is None for _ in range(11)] == [True] * 10 + [False]


def test_a_slow_rate_says_when_the_next_call_is_taken() -> None:
    now = 0.0
    rates = Rates(0.1, lambda: now)
    assert rates.refusal("a") is None
    refused = rates.refusal("a")
    assert refused is not None
    assert refused.headers == ((b"retry-after", b"10"),)
    now = 10
    assert rates.refusal("a") is None


def test_the_table_of_clients_is_bounded() -> None:
    rates = Rates(1)
    for number in range(MAX_CLIENTS + 1_000):
        rates.refusal(str(number))
    assert len(rates._buckets) == MAX_CLIENTS


async def test_a_flood_of_one_does_not_hold_up_another(start: Callable[..., HttpServer]) -> None:
    server = start(SNOWLEDGER_HTTP_RATE_PER_S="20")
    tokens = [server.ledger.run("token", "add", name, "--customer", name).stdout.strip() for name in ("loud", "quiet")]
    statuses: Counter[int] = Counter()
    waits = set()

    async def flood(client: httpx2.AsyncClient) -> None:
        for number in range(40):
            response = await client.post(
                server.mcp, **tool_call((LEGACY, MODERN)[number % 2], "log_event", EVENT, tokens[0])
            )
            statuses[response.status_code] += 1
            waits.add(response.headers.get("retry-after"))

    async with httpx2.AsyncClient(timeout=20) as client, anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(flood, client)
        for _ in range(10):
            response = await client.post(server.mcp, **tool_call(MODERN, "get_context", {}, tokens[1]))
            assert response.status_code == 200
            assert response.json()["result"]["structuredContent"]["customer"] == "quiet"
    assert set(statuses) == {200, 429}
    assert statuses[429] > 200
    assert waits == {None, "1"}
    assert len([event for event in server.events() if event["customer"] == "loud"]) == statuses[200]
