"""``snowledger query`` from a fresh folder on: the uploader that it starts loads, runs the query and ends by itself."""

import json
from contextlib import closing
from pathlib import Path

from tests.cli.cli_process import Cli, until

from snowledger_queue import Tickets, lock_holder

EVENTS = [("cdesk.user_asked", "acme", 3), ("cdesk.tool_called", "acme", 5), ("cdesk.user_asked", "globex", 7)]


def imported(cli: Cli) -> None:
    lines = [
        json.dumps({"activity": activity, "customer": customer, "ts": "2026-01-02T03:04:05Z", "feature_json": {"n": n}})
        for activity, customer, count in EVENTS
        for n in range(count)
    ]
    cli.run("import", "-", text="\n".join(lines))


def ended(cli: Cli) -> None:
    until(lambda: lock_holder(cli.spool.uploader_lock) is None)


def test_a_query_right_after_an_import_counts_what_was_imported_and_of_one_customer(cli: Cli) -> None:
    imported(cli)
    done = cli.run("query", "activity_counts", "since=700d", "--format", "json")
    found = {row["activity"]: row["events"] for row in map(json.loads, done.stdout.splitlines())}
    found.pop("cdesk.sql_executed", None)  # that it was asked may have been loaded before it was answered
    assert found == {"cdesk.tool_called": 5, "cdesk.user_asked": 3}
    assert done.stderr == ""
    ended(cli)
    assert cli.statistics().events == 0

    (ticket,) = map(json.loads, cli.run("tickets", "list", "--json").stdout.splitlines())
    rows = len(done.stdout.splitlines())
    assert (ticket["status"], ticket["row_count"], ticket["truncated"]) == ("succeeded", rows, False)
    assert Path(ticket["artifact"]).is_file()
    assert cli.run("artifacts", "list").stdout.splitlines()[0].startswith(ticket["ticket_id"])
    again = cli.run("query", "activity_counts", "since=700d", "--format", "json", "--max-age", "600")
    assert again.stdout == done.stdout
    assert lock_holder(cli.spool.uploader_lock) is None  # nobody was needed


def test_the_settings_of_the_folder_reach_the_uploader(cli: Cli) -> None:
    imported(cli)
    (cli.folder / "own").mkdir()
    (cli.folder / "own" / "numbers.sql").write_text(
        '-- ---\n-- answers = "The numbers."\n-- row_limit = 100\n-- ---\n'
        "SELECT CAST(feature_json ->> '$.n' AS BIGINT) AS n FROM events WHERE customer = $customer ORDER BY n\n"
    )
    (cli.folder / "snowledger.toml").write_text('templates_dir = "own"\nquery_row_cap = 4\n')
    done = cli.run("query", "numbers", "--format", "csv")
    assert done.stdout == "n\n0\n0\n1\n1\n"
    assert "cut off at its cap: 4 rows" in done.stderr
    ended(cli)


def test_a_query_that_nobody_waits_for_is_run_too(cli: Cli) -> None:
    imported(cli)
    ticket_id = cli.run("query", "activity_counts", "since=700d", "--no-wait").stdout.strip()
    with closing(Tickets(cli.spool)) as tickets:
        until(lambda: [one.status for one in tickets.list("acme", 10)] == ["succeeded"])
        assert [one.ticket_id for one in tickets.list("acme", 10)] == [ticket_id]
    ended(cli)


def test_while_the_kill_switch_is_on_no_uploader_is_started(cli: Cli) -> None:
    imported(cli)
    cli.run("kill-switch", "on")
    cli.run("query", "activity_counts", code=1)
    assert lock_holder(cli.spool.uploader_lock) is None
    assert cli.statistics().events == 16
