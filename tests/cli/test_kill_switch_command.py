"""``snowledger kill-switch``: it stops queries with and without an uploader, and tells everybody why."""

import os
from contextlib import closing

import pytest
from tests.cli.cli_process import Cli
from tests.cli.query_runner import now, run_next, submitted

from snowledger import kill_switch
from snowledger_queue import ProcessLock, QueueWriteError, RunnerTickets, Spool, Tickets


def statuses(spool: Spool) -> list[tuple[str, bool, str | None]]:
    with closing(Tickets(spool)) as tickets:
        return [(found.status, found.cancel_requested, found.error) for found in tickets.list(None, 10)]


def changes(cli: Cli) -> list[dict[str, object]]:
    return [event["feature_json"] for event in cli.queued() if event["activity"] == "cdesk.kill_switch_changed"]


def test_it_is_off_until_somebody_turns_it_on_and_a_look_makes_nothing(cli: Cli) -> None:
    cli.make_spool()
    assert cli.run("kill-switch", "status").stdout == "off\n"
    assert cli.json("kill-switch", "status") == {"on": False, "reason": "", "since": None, "by": None}
    assert cli.run("kill-switch", "off").stdout == "the kill switch is off, as it was\n"
    assert list(cli.home.glob("state*")) == list(cli.home.glob("kill*")) == []
    assert changes(cli) == []


def test_on_works_where_no_uploader_ever_ran(cli: Cli) -> None:
    cli.make_spool()
    done = cli.run("kill-switch", "on", "--reason", " too \x1b[31mdear ")
    assert done.stdout == "the kill switch is on: too \\x1b[31mdear\n"
    status = cli.json("kill-switch", "status")
    assert (status["on"], status["reason"], status["by"]) == (True, "too \x1b[31mdear", "operator")
    said = cli.run("kill-switch", "status").stdout
    assert said == f"on since {status['since']} by operator: too \\x1b[31mdear\n"


def test_on_cancels_every_query_and_off_brings_none_back(cli: Cli) -> None:
    submitted(cli.spool, since="1d")
    run_next(cli.spool, lambda *_: None)
    submitted(cli.spool, "globex")
    cli.run("kill-switch", "on", "--reason", "enough")
    reason = "the kill switch was turned on: enough"
    assert statuses(cli.spool) == [("cancelled", True, reason), ("running", True, reason)]
    assert cli.run("kill-switch", "off").stdout == "the kill switch is off\n"
    assert cli.run("kill-switch", "status").stdout.startswith("off since ")
    assert statuses(cli.spool)[0][0] == "cancelled"


def test_each_change_is_logged_once(cli: Cli) -> None:
    cli.make_spool()
    cli.run("kill-switch", "on", "--reason", "first")
    assert cli.run("kill-switch", "on").stdout == "the kill switch is still on: turned on by the operator\n"
    cli.run("kill-switch", "off")
    cli.run("kill-switch", "off")
    assert changes(cli) == [
        {"on": True, "reason": "first", "by": "operator"},
        {"on": False, "reason": "", "by": "operator"},
    ]
    assert {event["customer"] for event in cli.queued()} == {"snowledger"}


def test_off_ends_what_the_budget_turned_on(cli: Cli) -> None:
    with closing(RunnerTickets(cli.spool)) as tickets:
        tickets.recover(now())
        tickets.set_kill_switch(on=True, reason="120 credits in an hour", by="budget", now=now())
    assert "by budget: 120 credits in an hour" in cli.run("kill-switch", "status").stdout
    cli.run("kill-switch", "off")
    assert cli.json("kill-switch", "status")["on"] is False


def test_on_works_where_the_tickets_cannot_be_used(cli: Cli) -> None:
    (cli.spool.state / "full").mkdir(parents=True)
    cli.run("kill-switch", "on", "--reason", "enough")
    assert cli.json("kill-switch", "status")["on"] is True


def test_damaged_it_is_on_with_what_to_do_and_off_mends_it(cli: Cli) -> None:
    cli.spool.kill_switch.write_text("{")
    said = cli.run("kill-switch", "status").stdout
    assert said.startswith("on: how it stands cannot be read (")
    assert said.endswith("turn it on or off to mend that\n")
    assert cli.run("kill-switch", "off").stdout == "the kill switch is off\n"
    assert cli.run("kill-switch", "status").stdout.startswith("off since ")


def test_that_it_cannot_be_turned_is_said_with_what_to_do(cli: Cli) -> None:
    (cli.spool.kill_switch / "full").mkdir(parents=True)
    done = cli.run("kill-switch", "on", code=1)
    assert "kill_switch.json cannot be written" in done.stderr
    assert done.stderr.endswith("; no uploader runs, and so no query\n")
    lock = ProcessLock.acquire(cli.spool.uploader_lock, "uploader")
    done = cli.run("kill-switch", "on", code=1)
    lock.release()
    assert done.stderr.endswith(f"end the uploader, process {os.getpid()}\n")


def test_a_queue_that_takes_no_event_does_not_undo_the_switch(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.make_spool()

    def refuse(*_: object) -> None:
        raise QueueWriteError("the disk is full")

    monkeypatch.setattr("snowledger_queue.open_writer", refuse)
    monkeypatch.setenv("SNOWLEDGER_HOME", str(cli.home))
    kill_switch.turn_on("enough")
    assert "the kill switch is on: enough" in capsys.readouterr().out
    assert cli.json("kill-switch", "status")["on"] is True


def test_a_reason_must_be_text_of_a_sentence_or_two(cli: Cli) -> None:
    cli.make_spool()
    assert "at most 500 characters" in cli.run("kill-switch", "on", "--reason", "x" * 501, code=2).stderr
    assert "lone surrogate" in cli.run("kill-switch", "on", "--reason", "\udcff", code=2).stderr
    assert cli.json("kill-switch", "status")["on"] is False
