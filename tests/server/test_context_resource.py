"""Contexts as resources, in both eras: what get_context answers, under an address that tells nothing else."""

import json
import logging
from urllib.parse import quote

import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError
from tests.server.server_samples import ERAS, EVENT, INSIGHT, Connected, connected

from snowledger_queue import ContextReader, Spool
from snowledger_server._contexts import Contexts
from snowledger_server._errors import TimeLimitError

pytestmark = pytest.mark.parametrize("mode", ERAS)

ODD_CUSTOMERS = ["ü ber", "a%2Fb", "a?b#c", "..", "%", "50% {off}", "\U0001f9ca", "a:b@c", "x" * 255]

NOT_FOUND = {"legacy": -32002, "auto": types.INVALID_PARAMS}
"""The code that each era's specification names."""


async def read(server: Connected, uri: str) -> str:
    result = await server.client.read_resource(uri)
    [content] = result.contents
    assert isinstance(content, types.TextResourceContents)
    assert (content.uri, content.mime_type) == (uri, "application/json")
    return content.text


async def refusal(server: Connected, uri: str) -> types.ErrorData:
    with pytest.raises(MCPError) as raised:
        await server.client.read_resource(uri)
    return raised.value.error


async def test_a_resource_is_what_get_context_answers(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        await server.ok("log_insight", INSIGHT)
        for number in range(200):
            await server.ok("log_insight", {**INSIGHT, "metric": f"m{number}"})
        await server.ok("log_event", EVENT)
        text = await read(server, "snowledger://context/acme")
        assert json.loads(text) == await server.ok("get_context", {})
        assert 15_000 < len(text.encode()) <= 16_384


async def test_the_contexts_that_may_be_read_are_listed_and_each_can_be_read(spool: Spool, mode: str) -> None:
    async with connected(spool, mode, *ODD_CUSTOMERS) as server:
        assert server.client.server_capabilities.resources is not None
        listed = (await server.client.list_resources()).resources
        resources = [resource for resource in listed if resource.uri != "snowledger://templates"]
        assert len(resources) == len(listed) - 1
        assert [resource.uri for resource in resources] == [
            f"snowledger://context/{quote(customer, safe='')}" for customer in sorted(["acme", *ODD_CUSTOMERS])
        ]
        for resource, customer in zip(resources, sorted(["acme", *ODD_CUSTOMERS]), strict=True):
            assert resource.mime_type == "application/json"
            assert customer in resource.name
            logged = await server.ok("log_event", {**EVENT, "customer_id": customer})
            context = json.loads(await read(server, resource.uri))
            assert context["customer"] == customer
            assert [event["event_id"] for event in context["recent_events"]] == [logged["event_id"]]


async def test_the_template_tells_how_an_address_is_made(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        [template, *_] = (await server.client.list_resource_templates()).resource_templates
    assert template.uri_template == "snowledger://context/{customer}"
    assert template.mime_type == "application/json"
    assert template.description is not None


@pytest.mark.parametrize(
    "uri",
    [
        *(
            f"snowledger://context/{rest}"
            for rest in ("beta", "gamma", "ACME", "", "acme/", "/acme", "acme?x=1", "acme#x")
        ),
        *(
            f"snowledger://context/{rest}"
            for rest in ("..%2Fbeta", "beta%00", "%ff", "%", "%zz", "acme%20", "x" * 5_000)
        ),
        *("snowledger://context", "snowledger://tickets/acme", "snowledger://", "snowledger:acme", "snowledger"),
        *("https://context/acme", "file:///etc/passwd", "SNOWLEDGER://context/acme", "snowledger://Context/acme"),
        *("", " ", "ü", " snowledger://context/acme", "snowledger://user@context/acme", "snowledger://context:80/acme"),
    ],
)
async def test_any_other_address_gets_one_and_the_same_error(spool: Spool, mode: str, uri: str) -> None:
    async with connected(spool, mode, customer="beta") as other:
        await other.ok("log_insight", INSIGHT)
    async with connected(spool, mode) as server:
        error = await refusal(server, uri)
        assert (error.code, error.message) == (NOT_FOUND[mode], "resource not found or not allowed")
        assert error.data == {"uri": uri[:300]}
        await read(server, "snowledger://context/acme")


async def test_a_defect_shows_a_reference_that_the_log_explains_and_nothing_else(
    spool: Spool, mode: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("password=hunter2")

    monkeypatch.setattr(ContextReader, "read", broken)
    async with connected(spool, mode) as server:
        with caplog.at_level(logging.ERROR, "snowledger_server"):
            error = await refusal(server, "snowledger://context/acme")
    assert error.code == types.INTERNAL_ERROR
    assert "hunter2" not in str(error)
    assert error.message.split("reference ")[1].split()[0] in caplog.text
    assert "hunter2" in caplog.text


async def test_a_context_that_cannot_be_read_in_time_is_not_said_to_be_missing(
    spool: Spool, mode: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang(*_arguments: object) -> None:
        raise TimeLimitError(30)

    monkeypatch.setattr(Contexts, "get", hang)
    async with connected(spool, mode) as server:
        with caplog.at_level(logging.ERROR, "snowledger_server"):
            error = await refusal(server, "snowledger://context/acme")
    assert (error.code, error.message) == (types.INTERNAL_ERROR, "the call was ended after 30 s")
    assert "reading a resource: the call was ended after 30 s" in caplog.text
