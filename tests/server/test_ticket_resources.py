"""Templates, tickets and artifacts as resources, in both eras."""

import base64
import json
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError
from tests.ddl.template_samples import write
from tests.server.query_samples import COLUMNS, NOT_TICKETS, ROWS, begin, finish, submitted, write_artifact
from tests.server.server_samples import ERAS, Connected, connected

from snowledger_ddl import load_templates
from snowledger_queue import RunnerTickets, Spool

pytestmark = pytest.mark.parametrize("mode", ERAS)

NOT_FOUND = {"legacy": -32002, "auto": types.INVALID_PARAMS}
"""The code that each era's specification names."""

CONTENT = b"PAR1\x00\xff of the query PAR1"


async def read(server: Connected, uri: str) -> tuple[dict[str, Any], bytes | None]:
    """The JSON, and the file where there is one."""
    first, *rest = (await server.client.read_resource(uri)).contents
    assert isinstance(first, types.TextResourceContents)
    assert (first.uri, first.mime_type) == (uri, "application/json")
    told: dict[str, Any] = json.loads(first.text)
    if not rest:
        return told, None
    [file] = rest
    assert isinstance(file, types.BlobResourceContents)
    assert (file.uri, file.mime_type) == (uri, "application/vnd.apache.parquet")
    return told, base64.b64decode(file.blob, validate=True)


async def refusal(server: Connected, uri: str) -> types.ErrorData:
    with pytest.raises(MCPError) as raised:
        await server.client.read_resource(uri)
    return raised.value.error


async def test_the_catalogue_says_of_each_template_all_that_a_call_needs(
    spool: Spool, mode: str, tmp_path: Path
) -> None:
    matter = 'example = { kind = "a" }\nrow_limit = 7\n[params.kind]\ntype = "enum"\nvalues = ["a", "b"]\n'
    write(tmp_path, "SELECT $kind AS kind FROM events WHERE customer = $customer", matter + 'description = "Which."\n')
    async with connected(spool, mode, templates_dir=tmp_path) as server:
        [listed] = [found for found in (await server.client.list_resources()).resources if "templates" in found.uri]
        assert (listed.uri, listed.mime_type) == ("snowledger://templates", "application/json")
        told, _ = await read(server, listed.uri)
    found = {template["name"]: template for template in told["templates"]}
    assert set(found) == {*load_templates().templates, "mine"}
    assert found["mine"] == {
        "name": "mine",
        "answers": "What is asked.",
        "scope": "own",
        "parameters": {
            "type": "object",
            "properties": {"kind": {"type": "string", "enum": ["a", "b"], "description": "Which."}},
            "required": ["kind"],
            "additionalProperties": False,
        },
        "example": {"kind": "a"},
        "row_limit": 7,
    }


@pytest.mark.usefixtures("runner")
async def test_every_example_of_the_catalogue_can_be_submitted_as_it_is(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        told, _ = await read(server, "snowledger://templates")
        for template in told["templates"]:
            await server.ok("submit_query", {"template": template["name"], "params": template["example"]})


async def test_addresses_of_tickets_and_artifacts_are_told(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        templates = (await server.client.list_resource_templates()).resource_templates
    assert [template.uri_template for template in templates] == [
        "snowledger://context/{customer}",
        "snowledger://tickets/{ticket_id}",
        "snowledger://artifacts/{ticket_id}",
    ]
    assert all(template.description for template in templates)


async def test_a_ticket_is_what_get_result_answers(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        for status in ("queued", "succeeded"):
            if status == "succeeded":
                finish(runner, ticket_id)
            told, file = await read(server, f"snowledger://tickets/{ticket_id}")
            assert told == await server.ok("get_result", {"ticket_id": ticket_id})
            assert told["status"] == status
            assert file is None


@pytest.mark.parametrize("size", [len(CONTENT), 1024 * 1024, 1024 * 1024 + 1])
async def test_an_artifact_says_where_it_is_and_comes_along_unless_it_is_large(
    spool: Spool, mode: str, runner: RunnerTickets, size: int
) -> None:
    content = CONTENT.ljust(size, b"\xa5")
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        begin_and_end(spool, runner, ticket_id, content)
        answer = await server.ok("get_result", {"ticket_id": ticket_id})
        told, file = await read(server, answer["artifact"])
    assert told == {
        **answer,
        "mime_type": "application/vnd.apache.parquet",
        "file": str(spool.artifacts / f"{ticket_id}.parquet"),
    }
    assert (told["columns"], told["rows"], told["row_count"], told["bytes"]) == (COLUMNS, ROWS, 2, 1234)
    assert file == (content if size <= 1024 * 1024 else None)


def begin_and_end(spool: Spool, runner: RunnerTickets, ticket_id: str, content: bytes) -> None:
    write_artifact(spool, ticket_id, content)
    finish(runner, ticket_id)


async def test_whatever_there_is_not_gets_one_and_the_same_error(
    spool: Spool, mode: str, runner: RunnerTickets
) -> None:
    async with connected(spool, mode, customer="beta") as other:
        theirs = await submitted(other)
        begin_and_end(spool, runner, theirs, CONTENT)
        await read(other, f"snowledger://artifacts/{theirs}")
    async with connected(spool, mode, "beta") as server:
        ids = [str(ticket_id) for ticket_id in NOT_TICKETS if ticket_id != "\ud800"]
        for ticket_id in (theirs, theirs.upper(), f"{theirs}/", f"%{theirs}", "0" * 32, *ids):
            for kind in ("tickets", "artifacts"):
                uri = f"snowledger://{kind}/{ticket_id}"
                error = await refusal(server, uri)
                assert (error.code, error.message) == (NOT_FOUND[mode], "resource not found or not allowed")
                assert error.data == {"uri": uri[:300]}
        for uri in ("snowledger://templates/", "snowledger://template", "snowledger://artifacts"):
            assert (await refusal(server, uri)).code == NOT_FOUND[mode]


@pytest.mark.parametrize("state", ["queued", "running", "succeeded", "without", "gone", "linked", "folder"])
async def test_what_is_no_file_of_a_result_is_not_read(
    spool: Spool, mode: str, runner: RunnerTickets, state: str, tmp_path: Path
) -> None:
    async with connected(spool, mode) as server:
        ticket_id = await submitted(server)
        path = spool.artifacts / f"{ticket_id}.parquet"
        if state in {"queued", "running", "succeeded", "without"}:
            path.write_bytes(CONTENT)
        if state == "linked":
            secret = tmp_path / "secret"
            secret.write_bytes(b"secret")
            path.symlink_to(secret)
        if state == "folder":
            path.mkdir()
        if state == "running":
            begin(runner, ticket_id)
        elif state != "queued":
            finish(runner, ticket_id, artifact=state != "without")
        uri = f"snowledger://artifacts/{ticket_id}"
        if state == "succeeded":
            assert (await read(server, uri))[1] == CONTENT
        else:
            assert (await refusal(server, uri)).code == NOT_FOUND[mode]
        await read(server, f"snowledger://tickets/{ticket_id}")


async def test_without_state_the_error_says_what_to_start(
    spool: Spool, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(spool, mode) as server:
        for kind in ("tickets", "artifacts"):
            error = await refusal(server, f"snowledger://{kind}/{'0' * 32}")
            assert error.code == types.INTERNAL_ERROR
            assert "start one with `snowledger upload`" in error.message
            assert str(spool.state) not in error.message
        assert f"{spool.state} is not there" in caplog.text
