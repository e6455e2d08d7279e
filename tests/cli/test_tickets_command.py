"""``snowledger tickets`` and ``artifacts``: what was asked for is seen and ended, and old results make room."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.cli_process import Cli, imported_by
from tests.cli.query_runner import failure, now, rows_of, run_next, submitted

from snowledger_queue import Spool, Ticket, Tickets

DAY_S = 86_400


def tickets_of(spool: Spool) -> dict[str, Ticket]:
    with closing(Tickets(spool)) as tickets:
        return {ticket.ticket_id: ticket for ticket in tickets.list(None, 100)}


def finished(spool: Spool, rows: int = 3, *, days_ago: float = 0) -> Ticket:
    ticket = submitted(spool, since=f"{rows}d", at=now(-days_ago * DAY_S))
    run_next(spool, rows_of(f"FROM range({rows})", at=now(-days_ago * DAY_S)))
    return ticket


def test_a_spool_where_nobody_asked_for_anything(cli: Cli) -> None:
    cli.make_spool()
    assert cli.run("tickets", "list").stdout == "no tickets\n"
    assert cli.run("tickets", "list", "--json").stdout == ""
    assert cli.run("artifacts", "list").stdout == "no artifacts\n"
    assert "nobody has asked" in cli.run("tickets", "show", "ab", code=1).stderr
    assert "0 artifacts" in cli.run("artifacts", "prune", "--dry-run").stdout
    assert not cli.spool.state.exists()


def test_list_shows_own_tickets_newest_first_and_everybodys_on_request(cli: Cli) -> None:
    done = finished(cli.spool)
    submitted(cli.spool, since="9d", at=now(-5))
    run_next(cli.spool, failure("no \x1b[31mtable"))
    waiting = submitted(cli.spool, since="8d")
    other = submitted(cli.spool, "globex")

    lines = cli.run("tickets", "list").stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"{waiting.ticket_id}  queued     ")
    assert lines[0].endswith("0 before it")
    assert "3 rows, " in next(line for line in lines if line.startswith(done.ticket_id))
    assert any(line.endswith("no \\x1b[31mtable") for line in lines)

    assert cli.run("tickets", "list", "--all", "--limit", "1").stdout.startswith(f"{other.ticket_id}  queued  ")
    everybody = [json.loads(line) for line in cli.run("tickets", "list", "--all", "--json").stdout.splitlines()]
    assert [ticket["customer"] for ticket in everybody] == ["globex", "acme", "acme", "acme"]
    found = next(ticket for ticket in everybody if ticket["ticket_id"] == done.ticket_id)
    assert found["params"]["since"] == 3 * DAY_S
    assert found["columns"] == [{"name": "range", "type": "BIGINT"}]
    assert Path(found["artifact"]).is_file()
    assert everybody[0]["artifact"] is None


def test_show_takes_the_first_digits_of_anybodys_ticket(cli: Cli) -> None:
    ticket = submitted(cli.spool, "globex")
    for wanted in (ticket.ticket_id, ticket.ticket_id[:8].upper()):
        shown = cli.run("tickets", "show", wanted).stdout
        assert f"ticket_id         {ticket.ticket_id}\n" in shown
        assert "customer          globex\n" in shown
    assert cli.json("tickets", "show", ticket.ticket_id)["query_hash"] == ticket.query_hash


@pytest.mark.parametrize("command", ["show", "cancel"])
def test_an_id_that_no_ticket_has_is_said(command: str, cli: Cli) -> None:
    submitted(cli.spool)
    for wanted in ("zz", "", "f" * 32, "../x"):
        done = cli.run("tickets", command, wanted, code=1)
        assert done.stderr.startswith("snowledger: no ticket has an id that begins with ")


def test_cancel_ends_what_waits_has_what_runs_ended_and_leaves_what_is_over(cli: Cli) -> None:
    running = submitted(cli.spool, since="1d")
    run_next(cli.spool, lambda *_: None)
    waiting = submitted(cli.spool, "globex", since="2d")
    assert cli.run("tickets", "cancel", waiting.ticket_id).stdout == f"{waiting.ticket_id}: cancelled\n"
    assert "the uploader is cancelling it" in cli.run("tickets", "cancel", running.ticket_id).stdout
    assert "it has ended already (cancelled)" in cli.run("tickets", "cancel", waiting.ticket_id).stdout
    found = tickets_of(cli.spool)
    assert found[waiting.ticket_id].status == "cancelled"
    assert found[running.ticket_id].cancel_requested


def test_artifacts_are_listed_with_whose_they_are(cli: Cli) -> None:
    ticket = finished(cli.spool)
    stray = cli.spool.artifacts / f"{'a' * 32}.parquet"
    stray.write_bytes(b"x" * 2048)
    first, second, total = cli.run("artifacts", "list").stdout.splitlines()
    assert first.startswith(f"{ticket.ticket_id}  ")
    assert first.endswith("  acme  activity_counts")
    assert second == f"{'a' * 32}     2.0 KiB  of no ticket"
    assert total.startswith("2 artifacts, ")
    objects = [json.loads(line) for line in cli.run("artifacts", "list", "--json").stdout.splitlines()]
    assert [found["bytes"] for found in objects] == [tickets_of(cli.spool)[ticket.ticket_id].bytes, 2048]
    assert [found["row_count"] for found in objects] == [3, None]


def test_prune_deletes_what_is_old_and_a_dry_run_only_says_the_same(cli: Cli) -> None:
    old, kept = finished(cli.spool, 4, days_ago=40), finished(cli.spool, 5, days_ago=20)
    stray = cli.spool.artifacts / f"{'a' * 32}.parquet"
    stray.write_bytes(b"x")
    waiting = submitted(cli.spool)
    said = cli.run("artifacts", "prune", "--older-than", "30", "--dry-run").stdout
    assert said.startswith("2 artifacts (")
    assert said.endswith(" and 1 ticket would be deleted\n")
    assert len(list(cli.spool.artifacts.iterdir())) == 3
    assert len(tickets_of(cli.spool)) == 3

    done = cli.run("artifacts", "prune", "--older-than", "30").stdout
    assert done == "deleted " + said.replace(" would be deleted", "")
    assert [path.stem for path in cli.spool.artifacts.iterdir()] == [kept.ticket_id]
    assert set(tickets_of(cli.spool)) == {kept.ticket_id, waiting.ticket_id}
    assert old.ticket_id not in tickets_of(cli.spool)


def test_prune_keeps_the_newest_up_to_a_size_and_their_tickets_stay(cli: Cli) -> None:
    tickets = [finished(cli.spool, rows, days_ago=10 - rows) for rows in (1, 2, 3)]
    sizes = [(cli.spool.artifacts / f"{ticket.ticket_id}.parquet").stat().st_size for ticket in tickets]
    most = str(sizes[1] + sizes[2])
    said = cli.run("artifacts", "prune", "--max-bytes", most, "--dry-run").stdout
    done = cli.run("artifacts", "prune", "--max-bytes", most).stdout
    assert said.startswith("1 artifact (")
    assert done == "deleted " + said.replace(" would be deleted", "")
    assert {path.stem for path in cli.spool.artifacts.iterdir()} == {ticket.ticket_id for ticket in tickets[1:]}
    assert tickets_of(cli.spool)[tickets[0].ticket_id].artifact is False
    assert cli.run("tickets", "show", tickets[0].ticket_id).stdout.count("artifact") == 0
    assert "deleted 0 artifacts" in cli.run("artifacts", "prune", "--max-bytes", most).stdout


def test_prune_takes_its_limits_from_the_settings(cli: Cli) -> None:
    finished(cli.spool, days_ago=3)
    finished(cli.spool, 5)
    assert "0 artifacts" in cli.run("artifacts", "prune", "--dry-run").stdout
    by_age = cli.run("artifacts", "prune", "--dry-run", SNOWLEDGER_ARTIFACT_MAX_AGE_DAYS="2").stdout
    assert by_age.startswith("1 artifact (")
    by_size = cli.run("artifacts", "prune", "--dry-run", SNOWLEDGER_ARTIFACT_MAX_BYTES="1").stdout
    assert by_size.startswith("2 artifacts (")
    assert "'x' is not accepted" in cli.run("artifacts", "prune", "--max-bytes", "x", code=2).stderr


def test_a_file_that_cannot_be_deleted_is_named(cli: Cli) -> None:
    folder = cli.spool.artifacts / f"{'b' * 32}.parquet"
    folder.mkdir()
    done = cli.run("artifacts", "prune", code=1)
    assert f"{folder}: " in done.stderr
    assert done.stdout.startswith("deleted 0 artifacts (0 bytes) and 0 tickets")
    assert done.stderr.endswith("snowledger: 1 artifact could not be deleted\n")


def test_looking_at_tickets_loads_neither_server_nor_warehouse(cli: Cli) -> None:
    submitted(cli.spool)
    for arguments in (["tickets", "list"], ["artifacts", "list"], ["kill-switch", "status"]):
        loaded = imported_by(cli, *arguments)
        heavy = {"duckdb", "rich", "mcp", "snowledger_ddl", "snowledger_server", "snowledger_uploader"}
        assert loaded & heavy == set()
