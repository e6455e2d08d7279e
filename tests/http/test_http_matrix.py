"""Every tool and resource, for each customer of one server: one's own is there, another's is as if it were not."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx2
import pytest
from tests.http.http_server import LEGACY, MODERN, HttpServer
from tests.http.people import NOBODY, RESOURCES, TOOLS, Person, Wire, same_but_for, settle, shown
from tests.server.query_samples import NOT_TICKETS

from snowledger_queue import RunnerTickets

CATALOGUE = "snowledger://templates"


@pytest.fixture(params=[LEGACY, MODERN])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def people(server: HttpServer, client: httpx2.Client) -> dict[str, Person]:
    return settle(server, client)


@pytest.fixture
def acme(people: dict[str, Person]) -> Person:
    return people["acme"]


@pytest.fixture
def beta(people: dict[str, Person]) -> Person:
    return people["beta"]


@pytest.fixture
def wire(server: HttpServer, client: httpx2.Client, era: str, acme: Person) -> Wire:
    """acme's."""
    return Wire(server, client, era, acme.token)


@pytest.fixture
def _untouched(server: HttpServer, beta: Person) -> Iterator[None]:
    """Nothing of beta's changes."""
    with closing(RunnerTickets(server.ledger.spool)) as runner:
        before = runner.list(beta.customer, 10), [e for e in server.events() if e["customer"] == beta.customer]
        assert len(before[0]) == len(before[1]) == 2
        yield
        assert (
            runner.list(beta.customer, 10),
            [e for e in server.events() if e["customer"] == beta.customer],
        ) == before


def test_every_tool_and_resource_of_the_server_has_a_row(wire: Wire) -> None:
    tools = wire.ask("tools/list").json()["result"]["tools"]
    assert {tool["name"] for tool in tools} == TOOLS.keys()
    templates = wire.ask("resources/templates/list").json()["result"]["resourceTemplates"]
    assert {template["uriTemplate"] for template in templates} == RESOURCES.keys()


@pytest.mark.usefixtures("_untouched")
@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_works_for_ones_own_and_knows_nobody_elses(wire: Wire, acme: Person, beta: Person, tool: str) -> None:
    own = wire.call(tool, TOOLS[tool].own(acme))
    assert own.json()["result"]["isError"] is False
    theirs, nobodys = (wire.call(tool, TOOLS[tool].about(whom)) for whom in (beta, NOBODY))
    assert theirs.json()["result"]["isError"] is True
    assert same_but_for(theirs.content, beta) == nobodys.content
    assert shown(theirs)[:2] == shown(nobodys)[:2]
    assert [one for one in (beta.mark, beta.query_hash) if one in own.text + theirs.text] == []
    assert beta.done not in own.text


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_resource_is_there_for_its_owner_and_for_nobody_else(
    wire: Wire, acme: Person, beta: Person, resource: str
) -> None:
    own = wire.read(RESOURCES[resource](acme))
    assert acme.mark in own.text or acme.query_hash in own.text
    theirs, nobodys = (wire.read(RESOURCES[resource](whom)) for whom in (beta, NOBODY))
    assert theirs.json()["error"]["message"] == "resource not found or not allowed"
    assert same_but_for(theirs.content, beta) == nobodys.content
    assert shown(theirs)[:2] == shown(nobodys)[:2]
    assert [one for one in (beta.mark, beta.query_hash) if one in own.text] == []


def test_each_is_told_of_its_own_resources_and_all_of_the_same_templates(
    server: HttpServer, client: httpx2.Client, people: dict[str, Person], era: str
) -> None:
    catalogues = set()
    for name, customers in (("acme", ["acme"]), ("beta", ["beta"]), ("gama", ["acme", "gama"])):
        wire = Wire(server, client, era, people[name].token)
        listed = wire.ask("resources/list").json()["result"]["resources"]
        assert [one["uri"] for one in listed] == [CATALOGUE, *(f"snowledger://context/{one}" for one in customers)]
        catalogues.add(wire.read(CATALOGUE).content)
    assert len(catalogues) == 1


def test_what_another_has_run_neither_answers_nor_verifies(wire: Wire, acme: Person, beta: Person) -> None:
    def verified(query_hash: str) -> Any:
        arguments = {**TOOLS["log_insight"].own(acme), "provenance_query_hash": query_hash}
        return wire.ok("log_insight", arguments)["verified"]

    assert verified(acme.query_hash) is True
    assert verified(beta.query_hash) is False
    asked = wire.ok("submit_query", {"template": "activity_counts", "params": {"since": "22h"}, "max_age_s": 3600})
    assert asked["query_hash"] == beta.query_hash
    assert asked["ticket_id"] != beta.done
    wire.ok("cancel_query", {"ticket_id": asked["ticket_id"]})


def test_who_may_act_for_another_gets_at_its_context_and_not_at_its_queries(
    server: HttpServer, client: httpx2.Client, people: dict[str, Person], acme: Person, beta: Person, era: str
) -> None:
    wire = Wire(server, client, era, people["gama"].token)
    context = wire.ok("get_context", {"customer_id": "acme"})
    assert acme.mark in json.dumps(context["insights"])
    assert context["tickets"] == []
    assert acme.mark not in json.dumps(wire.ok("get_context", {}))
    event = wire.ok("log_event", {**TOOLS["log_event"].own(acme), "idempotency_key": era})["event_id"]
    assert [found["customer"] for found in server.events() if found["activity_id"] == event] == ["acme"]
    for whom in (acme, beta):
        for tool in ("get_result", "cancel_query"):
            theirs, nobodys = (wire.call(tool, TOOLS[tool].about(one)) for one in (whom, NOBODY))
            assert theirs.content == nobodys.content
        for name in ("snowledger://tickets/{ticket_id}", "snowledger://artifacts/{ticket_id}"):
            theirs, nobodys = (wire.read(RESOURCES[name](one)) for one in (whom, NOBODY))
            assert same_but_for(theirs.content, whom) == nobodys.content
    assert wire.call("get_context", {"customer_id": "beta"}).json()["result"]["isError"] is True


def test_every_event_has_the_customer_of_its_token(server: HttpServer, people: dict[str, Person]) -> None:
    for event in server.events():
        features = json.dumps(event["feature_json"])
        assert [one.customer for one in people.values() if one.mark in features] in ([], [event["customer"]])


def test_no_id_leads_out_of_ones_own_folder(wire: Wire, acme: Person) -> None:
    paths = [
        *("../tokens.json", "..%2ftokens.json", "%2e%2e/tokens.json", "/etc/passwd", "..", ".", "", "%00", "*"),
        *(f"../artifacts/{acme.done}", f"{acme.done}/", f"{acme.done}.parquet", f"{acme.done.upper()}%20"),
    ]
    for kind in ("tickets", "artifacts", "context"):
        for path in paths:
            answer = wire.read(f"snowledger://{kind}/{path}").json()
            assert answer["error"]["message"] == "resource not found or not allowed", path
    for ticket_id in NOT_TICKETS:
        if ticket_id != "\ud800":  # which no JSON in UTF-8 can hold
            for tool in ("get_result", "cancel_query"):
                result = wire.call(tool, {"ticket_id": ticket_id}).json()["result"]
                assert result["isError"] is True
                assert "root:" not in json.dumps(result)


def test_a_ticket_cannot_be_guessed(people: dict[str, Person]) -> None:
    ids = {ticket for person in people.values() for ticket in (person.done, person.waiting)}
    assert len(ids) == 2 * len(people)
    assert all(len(bytes.fromhex(ticket)) * 8 >= 128 for ticket in ids)
