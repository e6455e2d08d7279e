"""submit_query as a client sees it, in both eras: a ticket at once, or an error that says all that was wrong."""

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.ddl.template_samples import write
from tests.server.query_samples import QUERY, finish, now, submitted
from tests.server.server_samples import ERAS, EVENT, connected

from snowledger_ddl import load_templates
from snowledger_queue import MAX_OPEN_TICKETS, RunnerTickets, Spool, Tickets

pytestmark = pytest.mark.parametrize("mode", ERAS)

BAD_ARGUMENTS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({}, ("template: missing; required are template",)),
    ({"template": None}, ("template: missing",)),
    ({"template": 5}, ("template: must be a string, not int", "the templates are active_customers, activity_counts")),
    ({"template": "activity_count"}, ("there is no 'activity_count', did you mean activity_counts?", "recent_events")),
    ({"template": "Recent-Events"}, ("did you mean recent_events?",)),
    ({"template": "../activity_counts"}, ("there is no '../activity_counts', did you mean activity_counts?",)),
    ({"template": "activity_counts.sql"}, ("did you mean activity_counts?",)),
    ({"template": "activity_counts\0"}, ("there is no 'activity_counts\\x00'",)),
    ({"template": "activity_counts\n"}, ("there is no 'activity_counts\\n'",)),
    ({"template": "\u0430ctivity_counts"}, ("there is no '\\u0430ctivity_counts'",)),
    ({"template": "SELECT * FROM events"}, ("there is no 'SELECT * FROM events'", "the templates are")),
    ({"template": ""}, ("there is no ''; the templates are",)),
    ({"template": "x" * 100_000}, ("there is no 'xxxx",)),
    ({"template": "\ud800"}, ("there is no '\\ud800'",)),
    ({**QUERY, "params": "since=7d"}, ("params: must be a JSON object, not str",)),
    ({**QUERY, "params": ["7d"]}, ("params: must be a JSON object, not list",)),
    ({**QUERY, "sql": "SELECT 1"}, ("sql: unknown argument; accepted are template, params, byte_cap, max_age_s",)),
    ({**QUERY, "customer_id": "beta"}, ("customer_id: unknown argument",)),
    *(({**QUERY, "byte_cap": cap}, ("byte_cap: accepted is a whole number from 1024 to",)) for cap in (0, 1023)),
    *(({**QUERY, "byte_cap": cap}, ("byte_cap: accepted",)) for cap in (2**40, -1, True, 2000.0, "2000", [2000])),
    *(({**QUERY, "max_age_s": age}, ("max_age_s: accepted is a number of seconds from 0",)) for age in (-1, 86_401)),
    *(({**QUERY, "max_age_s": age}, ("max_age_s: accepted",)) for age in (True, "60", [60], 10**400)),
]

HOSTILE = [
    *("' OR '1'='1", "'; DROP TABLE events; --", '" OR ""="', "/* */ UNION SELECT * FROM events", "$$; SELECT 1 $$"),
    *("$customer", "${customer}", "?", "\\", "%' --", "x\n-- y", "cdesk.user_asked\u037e DELETE FROM events"),
]


async def test_a_ticket_holds_all_that_the_runner_needs(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    async with connected(spool, mode, "zeta", "beta") as server:
        answer = await server.ok("submit_query", {**QUERY, "byte_cap": 5_000})
    ticket = runner.claim(now())
    assert ticket is not None
    assert answer == {
        "ticket_id": ticket.ticket_id,
        "status": "queued",
        "query_hash": ticket.query_hash,
        "reused": False,
        "position": 0,
    }
    assert (ticket.customer, ticket.customers) == ("acme", ("acme",)), "its template reads no others"
    assert (ticket.template, json.loads(ticket.params)) == ("activity_counts", {"since": 86_400, "activities": []})
    assert ticket.byte_cap == 5_000
    assert ticket.query_tag.startswith("cdesk_")
    text = load_templates().templates["activity_counts"].text
    canonical = f'activity_counts\n{text}\n{{"activities":[],"since":86400}}'
    assert ticket.query_hash == hashlib.sha256(canonical.encode()).hexdigest()
    async with connected(spool, mode, "zeta", "beta") as server:
        await server.ok("submit_query", {"template": "active_customers"})
    ticket = runner.claim(now())
    assert ticket is not None
    assert ticket.customers == ("acme", "beta", "zeta")


async def test_the_description_lets_a_model_choose_and_fill_in_any_template(spool: Spool, mode: str) -> None:
    templates = load_templates().templates
    async with connected(spool, mode) as server:
        [tool] = [tool for tool in (await server.client.list_tools()).tools if tool.name == "submit_query"]
    assert tool.description is not None
    assert len(tool.description.encode()) < 6_000
    assert tool.input_schema["properties"]["template"]["enum"] == list(templates)
    lines = {line.split(":")[0]: line for line in tool.description.splitlines()}
    for name, template in templates.items():
        line = lines[f"- {name}"]
        assert template.answers in line
        for parameter in template.parameters:
            assert f"{parameter.name}: " in line
    assert '(bucket: day|week|month = week, since: interval = 56d, activity: string = "")' in lines["- retention"]
    assert '(subject: string, metric: string = "")' in lines["- insight_history"], "what is required has no default"


async def test_a_folder_of_the_users_adds_templates_and_never_replaces_one_silently(
    spool: Spool, mode: str, runner: RunnerTickets, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "templates"
    folder.mkdir()
    body = "SELECT count(*) AS n FROM events WHERE customer = $customer"
    write(folder, body, name="mine")
    write(folder, body, name="activity_counts")
    write(folder, body, "override = true\n", name="errors")
    async with connected(spool, mode, templates_dir=folder) as server:
        mine = await server.ok("submit_query", {"template": "mine"})
        await server.ok("submit_query", QUERY)
        message, _ = await server.refused("submit_query", {"template": "errors", "params": {"since": "7d"}})
    assert (
        "params: errors does not take these: since: is no parameter of this template; this template takes none"
        in message
    )
    assert mine["query_hash"] == hashlib.sha256(f"mine\n{body}\n{{}}".encode()).hexdigest()
    assert "activity_counts.sql:1: snowledger has a template activity_counts" in caplog.text
    assert runner.list(None, 5)[0].template == "activity_counts"


async def test_a_description_with_many_templates_stays_short_and_names_all(
    spool: Spool, mode: str, tmp_path: Path
) -> None:
    for number in range(60):
        write(tmp_path, "SELECT 1 AS n FROM events WHERE customer = $customer", name=f"mine_{number}")
    async with connected(spool, mode, templates_dir=tmp_path) as server:
        [tool] = [tool for tool in (await server.client.list_tools()).tools if tool.name == "submit_query"]
    assert tool.description is not None
    assert len(tool.description.encode()) < 7_000
    assert "described in the resource snowledger://templates: " in tool.description
    for name in tool.input_schema["properties"]["template"]["enum"]:
        assert name in tool.description


async def test_a_wrong_argument_is_named_with_what_is_accepted(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    async with connected(spool, mode) as server:
        for arguments, words in BAD_ARGUMENTS:
            message, retryable = await server.refused("submit_query", arguments)
            assert not retryable
            assert message.endswith("Nothing was stored. Correct the argument and call again.")
            assert [word for word in words if word not in message] == [], message
            assert message.isprintable()
            assert len(message) < 700
    assert runner.list(None, 5) == []


async def test_everything_that_is_wrong_with_the_parameters_is_said_at_once(
    spool: Spool, mode: str, runner: RunnerTickets
) -> None:
    params = {
        "from_activity": 5,
        "per": "team",
        "within": "1 day",
        "since": "3000d",
        "until": "now",
        "customer": "beta",
    }
    async with connected(spool, mode) as server:
        message, retryable = await server.refused("submit_query", {"template": "time_between", "params": params})
        missing, _ = await server.refused("submit_query", {"template": "insight_history", "params": {"metric": None}})
    assert not retryable
    for name in params:
        assert f"{name}: " in message
    for words in (
        "per: 'team' is not accepted; accepted: one of session, customer",
        "within: '1 day' is not accepted; accepted: an interval such as 90s, 15m, 24h, 7d",
        "since: '3000d' is not accepted; accepted: an interval",
        "from 1h to 730d",
        "until: is no parameter of this template; accepted: from_activity, to_activity, per, within, since",
        "customer: is no parameter of this template",
    ):
        assert words in message
    assert "subject: is missing; accepted: text" in missing
    assert "metric: None is not accepted" in missing
    assert runner.list(None, 5) == []


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_hostile_text_is_a_value_and_nothing_else(
    spool: Spool, mode: str, runner: RunnerTickets, hostile: str
) -> None:
    async with connected(spool, mode) as server:
        answer = await server.ok("submit_query", {**QUERY, "params": {"activities": [hostile]}})
        await server.refused("submit_query", {**QUERY, "params": {"since": hostile}})
        await server.refused("submit_query", {**QUERY, "params": {hostile: "7d"}})
    [ticket] = runner.list(None, 5)
    assert ticket.ticket_id == answer["ticket_id"]
    assert json.loads(ticket.params)["activities"] == [hostile]


async def test_the_same_query_is_answered_by_the_ticket_that_there_is(
    spool: Spool, mode: str, runner: RunnerTickets
) -> None:
    same = {**QUERY, "params": {"since": 86_400, "activities": []}}
    async with connected(spool, mode) as server, connected(spool, mode) as second:
        first = await server.ok("submit_query", QUERY)
        assert await second.ok("submit_query", same) == {**first, "reused": True}
        others = [
            await server.ok("submit_query", other)
            for other in ({**QUERY, "params": {"since": "7d"}}, {**QUERY, "byte_cap": 9_999}, {"template": "errors"})
        ]
        assert [(other["reused"], other["position"]) for other in others] == [(False, 1), (False, 2), (False, 3)]
        finish(runner, first["ticket_id"])
        aged = await server.ok("submit_query", {**same, "max_age_s": 60})
        assert aged == {**first, "reused": True, "status": "succeeded", "position": None}
        anew = await server.ok("submit_query", QUERY)
        assert anew["ticket_id"] != first["ticket_id"]
        assert (anew["query_hash"], anew["reused"], anew["position"]) == (first["query_hash"], False, 3)


async def test_a_result_is_not_shared_with_who_may_read_more_or_less(
    spool: Spool, mode: str, runner: RunnerTickets
) -> None:
    query = {"template": "active_customers", "max_age_s": 60}
    async with connected(spool, mode, "beta") as server:
        finish(runner, (await server.ok("submit_query", query))["ticket_id"])
        assert (await server.ok("submit_query", query))["reused"] is True
    for customer, allowed in (("acme", []), ("acme", ["beta", "zeta"]), ("beta", ["acme"])):
        async with connected(spool, mode, *allowed, customer=customer) as server:
            assert (await server.ok("submit_query", query))["reused"] is False


async def test_while_the_kill_switch_is_on_queries_are_refused_with_its_reason(
    spool: Spool, mode: str, runner: RunnerTickets
) -> None:
    async with connected(spool, mode) as server:
        runner.set_kill_switch(on=True, reason="the bill of November", by="operator", now=now())
        message, retryable = await server.refused("submit_query", QUERY)
        assert "the kill switch is on since" in message
        assert "the bill of November" in message
        assert message.endswith("Nothing was stored. Repeating the call unchanged will not help.")
        assert not retryable
        await server.ok("log_event", EVENT)
        runner.set_kill_switch(on=False, reason="", by="operator", now=now())
        await server.ok("submit_query", QUERY)


async def test_before_the_first_uploader_the_error_says_what_to_start(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        message, retryable = await server.refused("submit_query", QUERY)
        assert "start one with `snowledger upload`" in message
        assert message.endswith("Nothing was acknowledged. Repeat the call unchanged in a second.")
        assert retryable
        runner = RunnerTickets(spool)
        runner.recover(now())
        await server.ok("submit_query", QUERY)
        runner.close()


async def test_a_customer_has_only_so_many_open_queries(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    async with connected(spool, mode) as server, connected(spool, mode, customer="beta") as other:
        for number in range(MAX_OPEN_TICKETS):
            await submitted(server, params={"since": 3_600 + number})
        message, retryable = await server.refused("submit_query", {"template": "errors"})
        assert f"{MAX_OPEN_TICKETS} queries of this customer are queued or running" in message
        assert retryable
        await submitted(other)
        ticket = runner.list("acme", 1)[0]
        await server.ok("cancel_query", {"ticket_id": ticket.ticket_id})
        await submitted(server)


@pytest.mark.usefixtures("runner")
async def test_who_submits_holds_nothing_else_up(spool: Spool, mode: str) -> None:
    async with connected(spool, mode) as server:
        await server.ok("submit_query", QUERY)
        blocker = sqlite3.connect(spool.state, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        answers: list[Any] = []

        async def submit() -> None:
            answers.append(await server.client.call_tool("submit_query", {"template": "errors"}))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(submit)
            for _ in range(5):
                await server.ok("log_event", EVENT)
                await server.ok("get_context", {})
            assert answers == [], "they wait, and nobody else does"
        blocker.execute("ROLLBACK")
        blocker.close()
        for answer in answers:
            assert "see the server's log. Nothing was acknowledged. Repeat the call unchanged" in answer.content[0].text
            assert answer.structured_content["retryable"] is True
        await server.ok("submit_query", {"template": "errors"})


async def test_many_at_once_all_get_a_ticket_of_their_own(spool: Spool, mode: str, runner: RunnerTickets) -> None:
    async with (
        connected(spool, mode) as server,
        connected(spool, mode, customer="beta") as other,
        anyio.create_task_group() as tasks,
    ):
        for number in range(50):
            for client in (server, other):
                tasks.start_soon(client.ok, "submit_query", {**QUERY, "params": {"since": 3_600 + number}})
    tickets = runner.list(None, 1_000)
    assert len({ticket.ticket_id for ticket in tickets}) == 100
    assert sorted(ticket.position for ticket in tickets if ticket.position is not None) == list(range(100))


async def test_a_defect_leaves_no_doubt_that_it_may_be_repeated(
    spool: Spool, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_more: object) -> None:
        raise ZeroDivisionError("password=hunter2")

    monkeypatch.setattr(Tickets, "submit", broken)
    async with connected(spool, mode) as server:
        message, retryable = await server.refused("submit_query", QUERY)
    assert message.endswith("Whether anything was stored is not known. Repeating the call does no harm.")
    assert "hunter2" not in message
    assert not retryable
