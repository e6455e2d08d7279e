"""Two customers on one spool: nothing that one may call shows, changes or betrays anything of the other."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from mcp.shared.exceptions import MCPError
from tests.queue_package.context_samples import event, fold, insight
from tests.server.query_samples import finish, now, submitted, write_artifact
from tests.server.server_samples import ERAS, EVENT, HASH, INSIGHT, Connected, connected

from snowledger_queue import ContextStore, RunnerTickets, Spool, timestamp

THEIRS, NOBODY = "beta", "nope"
"""Equally long, so that an answer may repeat what was asked for and still be the same."""

MARK = "of-another"
"""In all that the other customer has."""

QUERIES: list[dict[str, Any]] = [
    {"template": "activity_counts"},
    {"template": "recent_events", "params": {"activity": f"cdesk.{MARK}"}},
    {"template": "errors", "byte_cap": 5_000},
]

FOREIGN: list[object] = [THEIRS, THEIRS.upper(), f"../{THEIRS}", f"{THEIRS}\0", f" {THEIRS}", [THEIRS]]

VARIANTS: list[dict[str, Any]] = [
    {},
    {"max_bytes": 512},
    {"max_bytes": 1_048_576},
    {"max_bytes": 5},
    {"subject_prefix": MARK},
    {"subject_prefix": "o"},
    {"subject_prefix": "o", "max_bytes": 600},
    {"cursor": "x"},
]

pytestmark = [
    pytest.mark.parametrize("mode", ERAS),
    pytest.mark.parametrize("where", ["queue", "state", "both"]),
]


def past(seconds: float) -> str:
    return timestamp(datetime.now(UTC) - timedelta(seconds=seconds))


@pytest.fixture
def _folded(spool: Spool, where: str) -> Iterator[None]:
    """A state.db that has something of both, or an empty one."""
    with closing(ContextStore.open(spool)) as store:
        if where in {"state", "both"}:
            lines = [
                line
                for number, customer in enumerate(("acme", THEIRS))
                for line in (
                    insight(
                        2 * number,
                        f"folded of {name(customer)}",
                        customer=customer,
                        subject=f"{name(customer)}/folded",
                        recorded_at=past(60),
                    ),
                    event(2 * number + 1, past(60), customer, of=name(customer)),
                )
            ]
            fold(store, *lines, now=past(0))
        store.confirm(past(0), [])
        yield


def name(customer: str) -> str:
    return MARK if customer == THEIRS else "own"


async def log(server: Connected, customer: str) -> None:
    """Something of a customer, by its own server."""
    for number in range(5):
        subject = f"{name(customer)}/{number}"
        await server.ok("log_insight", {**INSIGHT, "subject": subject, "value": name(customer)})
    await server.ok(
        "log_event",
        {
            "activity": f"cdesk.{name(customer).replace('-', '_')}",
            "feature_json": {"of": name(customer)},
            "link": f"https://x/{name(customer)}",
            "idempotency_key": "k",
        },
    )


async def query(server: Connected, runner: RunnerTickets, customer: str) -> list[str]:
    """The ids of three queries of a customer: one that is over, one that runs, one that waits."""
    over, running, waiting = [await submitted(server, **{"params": {}, **arguments}) for arguments in QUERIES]
    rows = [[name(customer), 1]]
    finish(runner, over, rows=rows)
    write_artifact(server.spool, over, name(customer).encode())
    claimed = runner.claim(now())
    assert claimed is not None
    assert claimed.ticket_id == running
    return [over, running, waiting]


async def raw(server: Connected, tool: str, arguments: dict[str, Any]) -> str:
    return (await server.client.call_tool(tool, arguments)).model_dump_json()


async def resource(server: Connected, uri: str) -> str:
    try:
        return (await server.client.read_resource(uri)).model_dump_json()
    except MCPError as error:
        return error.error.model_dump_json()


@pytest.mark.usefixtures("_folded")
async def test_a_customer_sees_its_own_and_nothing_of_another(spool: Spool, mode: str, where: str) -> None:
    async with connected(spool, mode, customer=THEIRS) as other:
        if where != "state":
            await log(other, THEIRS)
        page = await other.ok("get_context", {"max_bytes": 800})
        cursors = [page["next_cursor"]] if page["next_cursor"] else []
        assert MARK in await raw(other, "get_context", {}), "there is something to be seen"
    async with connected(spool, mode) as server:
        if where != "state":
            await log(server, "acme")
        written = server.events()
        calls: list[tuple[str, dict[str, Any]]] = [
            *(
                ("get_context", {**variant, "customer_id": customer})
                for variant in (*VARIANTS, *({"cursor": cursor} for cursor in cursors))
                for customer in (None, "acme", *FOREIGN)
            ),
            *(("log_event", {**EVENT, "customer_id": customer}) for customer in FOREIGN),
            *(("log_insight", {**INSIGHT, "customer_id": customer}) for customer in FOREIGN),
        ]
        answers = [await raw(server, tool, arguments) for tool, arguments in calls]
        assert server.events() == written, "a refused call writes nothing"
        answers += [
            (await server.client.list_tools()).model_dump_json(),
            (await server.client.list_resources()).model_dump_json(),
            (await server.client.list_resource_templates()).model_dump_json(),
        ]
        answers += [
            await resource(server, f"snowledger://context/{rest}")
            for rest in ("acme", THEIRS, f"acme%2F..%2F{THEIRS}", f"acme/../{THEIRS}", f"{THEIRS}/", "")
        ]
        assert [answer for answer in answers if MARK in answer] == []
        own = await server.ok("get_context", {})
        assert {found["subject"].split("/")[0] for found in own["insights"]} == {"own"}
        expected = {"queue": 6, "state": 2, "both": 8}[where]
        assert sum(count["last_7_d"] for count in own["activity_counts"]) == expected
    async with connected(spool, mode, customer=THEIRS) as other:
        theirs = await other.ok("get_context", {})
        assert sum(count["last_7_d"] for count in theirs["activity_counts"]) == expected


@pytest.mark.usefixtures("_folded")
async def test_a_customer_that_exists_and_one_that_does_not_are_the_same_byte_for_byte(
    spool: Spool, mode: str, where: str
) -> None:
    async with connected(spool, mode, customer=THEIRS) as other:
        if where != "state":
            await log(other, THEIRS)
    async with connected(spool, mode) as server:
        for tool, arguments in (
            *(("get_context", variant) for variant in VARIANTS),
            ("log_event", EVENT),
            ("log_event", {**EVENT, "idempotency_key": "k"}),
            ("log_event", {**EVENT, "activity": "sales.x"}),
            ("log_event", {}),
            ("log_insight", {**INSIGHT, "provenance_query_hash": HASH}),
            ("log_insight", {**INSIGHT, "valid_to": "never"}),
        ):
            theirs = await raw(server, tool, {**arguments, "customer_id": THEIRS})
            nobodys = await raw(server, tool, {**arguments, "customer_id": NOBODY})
            assert theirs == nobodys
            assert '"is_error":true' in theirs
        for address in ("snowledger://context/{}", "snowledger://context/{}/", "snowledger://tickets/{}"):
            theirs = await resource(server, address.format(quote(THEIRS)))
            nobodys = await resource(server, address.format(quote(NOBODY)))
            assert theirs.replace(THEIRS, NOBODY) == nobodys


@pytest.mark.usefixtures("_folded")
async def test_who_may_read_both_gets_each_ones_own(spool: Spool, mode: str, where: str) -> None:
    async with connected(spool, mode, customer=THEIRS) as other:
        if where != "state":
            await log(other, THEIRS)
    async with connected(spool, mode, THEIRS) as server:
        if where != "state":
            await log(server, "acme")
        for _ in range(2):
            for customer in ("acme", THEIRS):
                for variant in ({}, {"max_bytes": 600}, {"subject_prefix": name(customer)}):
                    context = await server.ok("get_context", {**variant, "customer_id": customer})
                    assert context["customer"] == customer
                    assert {found["subject"].split("/")[0] for found in context["insights"]} <= {name(customer)}
                answer = await raw(server, "get_context", {"customer_id": customer})
                assert (MARK in answer) is (customer == THEIRS)
                assert ("own" in answer) is (customer == "acme")


@pytest.mark.usefixtures("_folded")
async def test_a_customers_queries_are_nobody_elses(spool: Spool, mode: str, where: str, runner: RunnerTickets) -> None:
    del where
    async with connected(spool, mode, customer=THEIRS) as other:
        theirs = await query(other, runner, THEIRS)
        before = runner.list(THEIRS, 10)
        assert MARK in await resource(other, f"snowledger://tickets/{theirs[0]}")
        hashes = [ticket.query_hash for ticket in before]
    # Also who may read the other's events does not get at its queries.
    for allowed in ([], [THEIRS]):
        async with connected(spool, mode, *allowed) as server:
            for known, unknown in zip(theirs, ("0" * 32, "f" * 32, "12" * 16), strict=True):
                for tool, more in (("get_result", {}), ("get_result", {"wait_s": 5}), ("cancel_query", {})):
                    answer = await raw(server, tool, {"ticket_id": known, **more})
                    assert answer == await raw(server, tool, {"ticket_id": unknown, **more})
                    assert "ticket not found" in answer
                for kind in ("tickets", "artifacts"):
                    answer = await resource(server, f"snowledger://{kind}/{known}")
                    nobodys = await resource(server, f"snowledger://{kind}/{unknown}")
                    assert answer.replace(known, unknown) == nobodys
            # The same queries, but of another customer: none is answered from the other's tickets.
            asked = [await server.ok("submit_query", {**arguments, "max_age_s": 3_600}) for arguments in QUERIES]
            assert [answer["query_hash"] for answer in asked] == list(reversed(hashes))
            assert {answer["ticket_id"] for answer in asked} & set(theirs) == set()
            for one in asked:
                assert one["reused"] is False
                learnt = await server.ok(
                    "log_insight",
                    {**INSIGHT, "provenance_query_hash": one["query_hash"], "metric": one["ticket_id"]},
                )
                assert learnt["verified"] is False
                await server.ok("cancel_query", {"ticket_id": one["ticket_id"]})
            for customer in (None, *allowed):
                answer = await raw(server, "get_context", {"customer_id": customer, "max_bytes": 1_048_576})
                assert [ticket_id for ticket_id in theirs if ticket_id in answer] == []
    assert runner.list(THEIRS, 10) == before


@pytest.mark.usefixtures("_folded")
async def test_how_many_queries_another_has_waiting_is_told_as_a_number_alone(
    spool: Spool, mode: str, where: str, runner: RunnerTickets
) -> None:
    del where
    async with connected(spool, mode, customer=THEIRS) as other:
        theirs = await query(other, runner, THEIRS)
    async with connected(spool, mode) as server:
        asked = await server.ok("submit_query", QUERIES[0])
        assert asked["position"] == 1
        shown = [
            await raw(server, "get_result", {"ticket_id": asked["ticket_id"]}),
            await raw(server, "get_context", {}),
        ]
    assert [text for text in shown for ticket_id in theirs if ticket_id in text or MARK in text] == []
