"""Two tokens of one customer: what a query found out about others is for who may read them all, and for nobody else."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from tests.http.http_server import LEGACY, MODERN, HttpServer
from tests.http.people import NOBODY, RESOURCES, TOOLS, WIDE, Person, Wire, same_but_for, settle, shown
from tests.server.query_samples import result
from tests.uploader.uploader_samples import ORIGIN

from snowledger_queue import Event, RunnerTickets
from snowledger_uploader import OwnEvents
from snowledger_uploader._query_events import End, completed, executed

OWN = {"template": "activity_counts", "params": {"since": "20h"}, "max_age_s": 3600}
"""Reads one's own rows, whatever the token allows besides."""


RUNS = ("cdesk.sql_executed", "cdesk.sql_completed", "cdesk.artifact_created")


def logged(server: HttpServer, ticket_id: str) -> list[Event]:
    """What an uploader logs of a run that succeeded."""
    with closing(RunnerTickets(server.ledger.spool)) as runner:
        ticket = runner.of_anybody(ticket_id)
    assert ticket is not None
    end = End("succeeded", result=result(), path=Path("of-a-run.parquet"))
    return [*executed(ORIGIN, ticket), *completed(ORIGIN, ticket, end, 0.5)]


def told(wire: Wire) -> tuple[dict[str, int], str]:
    """Of activities: how often there were any, and the newest events."""
    context = wire.ok("get_context", {})
    counts = {count["activity"]: count["last_24_h"] for count in context["activity_counts"]}
    return counts, json.dumps(context["recent_events"])


@pytest.fixture(scope="module")
def people(server: HttpServer, client: httpx2.Client) -> dict[str, Person]:
    return settle(server, client)


@pytest.fixture
def theirs(people: dict[str, Person]) -> Person:
    return people["wide"]


@pytest.fixture(params=[LEGACY, MODERN])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def wide(server: HttpServer, client: httpx2.Client, era: str, theirs: Person) -> Wire:
    """acme's, for whom beta is allowed."""
    return Wire(server, client, era, theirs.token)


@pytest.fixture
def narrow(server: HttpServer, client: httpx2.Client, era: str, people: dict[str, Person]) -> Wire:
    """acme's, for whom nobody else is."""
    return Wire(server, client, era, people["acme"].token)


@pytest.fixture(autouse=True)
def _untouched(server: HttpServer, theirs: Person) -> Iterator[None]:
    with closing(RunnerTickets(server.ledger.spool)) as runner:
        before = [runner.get(one, "acme", {"beta"}) for one in (theirs.done, theirs.waiting)]
        assert None not in before
        yield
        assert [runner.get(one, "acme", {"beta"}) for one in (theirs.done, theirs.waiting)] == before


def test_the_result_of_a_wider_token_is_as_if_it_were_not(wide: Wire, narrow: Wire, theirs: Person) -> None:
    tools = [tool for tool in TOOLS if "ticket_id" in TOOLS[tool].about(NOBODY)]
    resources = [uri for uri in RESOURCES if "{ticket_id}" in uri]
    assert (len(tools), len(resources)) == (2, 2)
    for tool in tools:
        answers = [narrow.call(tool, TOOLS[tool].about(whom)) for whom in (theirs, NOBODY)]
        assert same_but_for(answers[0].content, theirs) == answers[1].content
        assert shown(answers[0])[:2] == shown(answers[1])[:2]
    for uri in resources:
        answers = [narrow.read(RESOURCES[uri](whom)) for whom in (theirs, NOBODY)]
        assert answers[0].json()["error"]["message"] == "resource not found or not allowed"
        assert same_but_for(answers[0].content, theirs) == answers[1].content
        assert shown(answers[0])[:2] == shown(answers[1])[:2]
        assert theirs.done in wide.read(RESOURCES[uri](theirs)).text
    assert wide.ok("get_result", {"ticket_id": theirs.done})["rows"] == [[theirs.mark, 1]]


def test_a_wider_token_gets_at_what_a_narrower_one_asked_for(wide: Wire, people: dict[str, Person]) -> None:
    assert people["acme"].mark in wide.call("get_result", {"ticket_id": people["acme"].done}).text
    assert people["beta"].done not in wide.call("get_context", {}).text
    assert wide.call("get_result", {"ticket_id": people["beta"].done}).json()["result"]["isError"] is True


def test_a_context_lists_what_its_reader_may_read_whoever_read_it_before(
    wide: Wire, narrow: Wire, theirs: Person, people: dict[str, Person]
) -> None:
    for _ in range(2):  # from memory the second time
        for wire, all_of_it in ((wide, True), (narrow, False)):
            context = wire.ok("get_context", {})
            listed = {ticket["ticket_id"] for ticket in context["tickets"]}
            assert people["acme"].done in listed
            assert ({theirs.done, theirs.waiting} <= listed) is all_of_it
            assert context["left_out"]["tickets"] == 0
            for text in (json.dumps(context), wire.read("snowledger://context/acme").text):
                assert [one in text for one in (theirs.done, theirs.waiting)] == [all_of_it] * 2


def test_a_context_tells_of_no_run_whose_result_its_reader_may_not_read(
    server: HttpServer, wide: Wire, narrow: Wire, theirs: Person, people: dict[str, Person]
) -> None:
    events = OwnEvents(server.ledger.spool)
    before = told(narrow)
    events.put(*logged(server, theirs.done))
    assert [told(wire) for wire in (narrow, wide)] == [before, before]
    text = narrow.read("snowledger://context/acme").text
    assert [one for one in (theirs.done, theirs.query_hash, WIDE["template"]) if one in text] == []
    events.put(*logged(server, people["acme"].done))
    counts, recent = told(narrow)
    assert counts.keys() >= set(RUNS)
    assert people["acme"].done in recent


def test_what_a_narrower_token_cannot_read_backs_none_of_its_insights(wide: Wire, narrow: Wire, theirs: Person) -> None:
    insight = TOOLS["log_insight"].own(theirs) | {"subject": "either"}
    assert [wire.ok("log_insight", insight)["verified"] for wire in (wide, narrow)] == [True, False]


def test_a_result_is_shared_only_with_who_may_read_exactly_the_same(wide: Wire, narrow: Wire, theirs: Person) -> None:
    again = {**WIDE, "max_age_s": 3600}
    assert wide.ok("submit_query", again)["ticket_id"] == theirs.done
    answer = narrow.ok("submit_query", again)
    assert answer["query_hash"] == theirs.query_hash
    assert answer["ticket_id"] != theirs.done
    narrow.ok("cancel_query", {"ticket_id": answer["ticket_id"]})


def test_a_query_that_reads_ones_own_rows_alone_is_for_all_tokens_of_the_customer(wide: Wire, narrow: Wire) -> None:
    asked = wide.ok("submit_query", OWN)["ticket_id"]
    assert narrow.ok("get_result", {"ticket_id": asked})["status"] == "queued"
    assert narrow.ok("submit_query", OWN)["ticket_id"] == asked
