"""``snowledger query``: what is asked, how the wait goes and ends, and that the result is printed as it is."""

import json
import signal
import subprocess
import sys
from contextlib import closing

import psutil
import pytest
from tests.cli.cli_process import Cli, until
from tests.cli.query_runner import answering, failure, now, rows_of, run_next, submitted

from snowledger.errors import CommandError
from snowledger.query_wait import MAX_STARTS, Uploader, load_first, progress_text
from snowledger_queue import ProcessLock, Spool, Ticket, Tickets, lock_holder

COUNTS = "SELECT * FROM (VALUES ('cdesk.user_asked', 12), ('cdesk.tool_called', 7)) AS counts(activity, events)"


def tickets_of(spool: Spool) -> list[Ticket]:
    with closing(Tickets(spool)) as tickets:
        return list(tickets.list(None, 100))


def test_a_table_of_the_result_and_nothing_else_in_a_pipe(cli: Cli) -> None:
    with answering(cli.spool, rows_of(COUNTS)) as begun:
        done = cli.run("query", "activity_counts", "since=24h", SNOWLEDGER_ALLOWED_CUSTOMERS="globex, initech")
    assert done.stdout == "activity           events\ncdesk.user_asked       12\ncdesk.tool_called       7\n"
    assert done.stderr == ""
    (ticket,) = begun
    assert (ticket.customer, ticket.customers) == ("acme", ("acme",)), "its template reads no others"
    assert (ticket.template, json.loads(ticket.params)) == ("activity_counts", {"activities": [], "since": 86400})
    assert ticket.query_tag.startswith("cdesk_")
    assert ticket.byte_cap is None


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_asked(cli: Cli) -> None:
    cli.make_spool()
    assert "is a folder" in cli.run("query", "activity_counts", "--output", cli.folder, code=1).stderr
    done = cli.run("query", "activity_counts", "--output", "nowhere/a.csv", code=1)
    assert "there is no folder nowhere" in done.stderr
    assert not cli.spool.state.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "parquet"], "needs --output"),
        (["--no-wait", "--format", "json"], "go with --wait"),
        (["--no-wait", "--output", "x"], "go with --wait"),
        (["--byte-cap", "much"], "'much' is not accepted; accepted: bytes from 1, such as"),
        (["--byte-cap", "0"], "'0' is not accepted"),
        (["--byte-cap", "99999999999999 TB"], "is not accepted"),
        (["--max-age", "-1"], "--max-age"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], message: str, cli: Cli) -> None:
    cli.make_spool()
    assert message in cli.run("query", "activity_counts", *arguments, code=2).stderr


def test_everything_that_is_wrong_with_the_parameters_is_said_at_once(cli: Cli) -> None:
    cli.make_spool()
    done = cli.run(
        *("query", "activity_counts", "since=often", "sicne=7d", "bare", "activities=a", "activities=b"),
        *("\x1b[2J=1",),
        code=2,
    )
    assert "since: 'often' is not accepted; accepted: an interval such as 90s" in done.stderr
    assert "sicne: is no parameter of this template; accepted: since, activities" in done.stderr
    assert "'bare': is not accepted; accepted: a name, =, and a value" in done.stderr
    assert "'activities': is given twice" in done.stderr
    assert "see snowledger templates show activity_counts" in done.stderr
    assert "\x1b" not in done.stderr
    assert not cli.spool.state.exists()


def test_values_may_be_lists_and_hold_anything(cli: Cli) -> None:
    value = "x'; DROP TABLE events; --$$"
    with answering(cli.spool, rows_of(COUNTS)) as begun:
        cli.run("query", "activity_counts", f"activities={value},b = c")
        cli.run("query", "activity_counts", 'activities=["a,b", "="]')
    first, second = (json.loads(ticket.params)["activities"] for ticket in begun)
    assert first == [value, "b = c"]
    assert second == ["a,b", "="]


def test_a_template_that_there_is_not_is_said_with_what_was_meant(cli: Cli) -> None:
    cli.make_spool()
    done = cli.run("query", "activty_counts", code=1)
    assert done.stderr == "snowledger: there is no template 'activty_counts'; did you mean activity_counts?\n"
    assert "see snowledger templates list" in cli.run("query", "../../etc/passwd", code=1).stderr


def test_a_users_template_is_asked_like_any_other_and_a_bad_one_says_why(cli: Cli) -> None:
    folder = cli.folder / "own"
    folder.mkdir()
    (folder / "own_count.sql").write_text(
        '-- ---\n-- answers = "How many."\n-- row_limit = 1\n-- ---\n'
        "SELECT COUNT(*) AS events FROM events WHERE customer = $customer\n"
    )
    (folder / "bad_count.sql").write_text("SELECT 1\n")
    with answering(cli.spool, rows_of("SELECT 3 AS events")) as begun:
        cli.run("query", "own_count", SNOWLEDGER_TEMPLATES_DIR="own")
    assert begun[0].template == "own_count"
    done = cli.run("query", "bad_count", code=1, SNOWLEDGER_TEMPLATES_DIR="own")
    assert done.stderr.startswith(f"snowledger: template 'bad_count' cannot be used: {folder / 'bad_count.sql'}:1: ")


def test_a_long_table_ends_with_how_to_see_the_rest(cli: Cli) -> None:
    with answering(cli.spool, rows_of("SELECT range AS number FROM range(1234)")):
        done = cli.run("query", "activity_counts")
    assert [line.strip() for line in done.stdout.splitlines()] == ["number", *map(str, range(100))]
    assert done.stderr == "... and 1,134 more rows; see them all with --format csv or json\n"


def test_a_result_that_was_cut_off_says_so(cli: Cli) -> None:
    with answering(cli.spool, rows_of("SELECT 1 AS number", truncated=True)) as begun:
        done = cli.run("query", "activity_counts", "--format", "json", "--byte-cap", "1 KiB")
    assert done.stdout == '{"number":1}\n'
    assert "cut off at its cap: 1 row, and there are more" in done.stderr
    assert begun[0].byte_cap == 1024


def test_the_result_goes_into_a_file_in_the_format_of_its_name(cli: Cli) -> None:
    with answering(cli.spool, rows_of(COUNTS)):
        done = cli.run("query", "activity_counts", "--output", "counts.csv")
    assert (done.stdout, done.stderr) == ("", "")
    assert (cli.folder / "counts.csv").read_text() == "activity,events\ncdesk.user_asked,12\ncdesk.tool_called,7\n"


def test_a_query_that_fails_ends_with_1_and_its_reason(cli: Cli) -> None:
    with answering(cli.spool, failure("longer than 30 s\x1b[2J")) as begun:
        done = cli.run("query", "activity_counts", "--format", "json", code=1)
    assert done.stdout == ""
    assert done.stderr == (f"snowledger: the query failed: longer than 30 s\\x1b[2J (ticket {begun[0].ticket_id})\n")


def test_the_result_of_the_same_query_is_taken_if_it_is_not_older_and_that_is_said(cli: Cli) -> None:
    with answering(cli.spool, rows_of(COUNTS)) as begun:
        first = cli.run("query", "activity_counts")
        again = cli.run("query", "activity_counts", "--max-age", "600")
        assert again.stdout == first.stdout
        assert f"this is the result of ticket {begun[0].ticket_id}, finished at " in again.stderr
        cli.run("query", "activity_counts")
        cli.run("query", "activity_counts", "since=8d", "--max-age", "600")
    assert len(begun) == 3


def test_a_result_whose_file_is_gone_is_said(cli: Cli) -> None:
    with answering(cli.spool, rows_of(COUNTS)) as begun:
        cli.run("query", "activity_counts")
        (cli.spool.artifacts / f"{begun[0].ticket_id}.parquet").unlink()
        done = cli.run("query", "activity_counts", "--max-age", "600", code=1)
    assert "is gone; ask again without --max-age" in done.stderr


def test_without_waiting_the_ticket_is_all_that_is_printed(cli: Cli) -> None:
    cli.make_spool()
    done = cli.run("query", "activity_counts", "--no-wait", SNOWLEDGER_AUTO_UPLOADER="0")
    (ticket,) = tickets_of(cli.spool)
    assert done.stdout == f"{ticket.ticket_id}\n"
    assert (ticket.status, ticket.position) == ("queued", 0)
    assert "no uploader runs, and only an uploader runs queries" in done.stderr


def test_a_wait_that_gives_up_leaves_the_query_to_go_on(cli: Cli) -> None:
    lock = ProcessLock.acquire(cli.spool.uploader_lock, "uploader")
    submitted(cli.spool)
    done = cli.run("query", "activity_counts", "since=8d", "--timeout", "0.1", code=1)
    lock.release()
    ticket = tickets_of(cli.spool)[0]
    assert (
        f"no result within 0.1 s (queued, 1 before it); it goes on, see snowledger tickets show {ticket.ticket_id}"
        in (done.stderr)
    )
    assert ticket.status == "queued"


def test_while_the_kill_switch_is_on_nothing_is_asked_and_nobody_waits(cli: Cli) -> None:
    cli.make_spool()
    cli.run("kill-switch", "on", "--reason", "the warehouse moves")
    done = cli.run("query", "activity_counts", code=1)
    assert "the kill switch is on since " in done.stderr
    assert "the warehouse moves" in done.stderr
    assert "snowledger kill-switch off" in done.stderr
    assert tickets_of(cli.spool) == []
    assert lock_holder(cli.spool.uploader_lock) is None


def test_the_kill_switch_ends_a_wait(cli: Cli, processes: list[subprocess.Popen[bytes]]) -> None:
    lock = ProcessLock.acquire(cli.spool.uploader_lock, "uploader")
    submitted(cli.spool, "globex")
    process = cli.start("query", "activity_counts")
    processes.append(process)
    until(lambda: len(tickets_of(cli.spool)) == 2)
    cli.run("kill-switch", "on", "--reason", "enough")
    assert process.wait(timeout=10) == 1
    lock.release()
    assert process.stderr is not None
    assert b"was cancelled: the kill switch was turned on: enough" in process.stderr.read()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_cancels_a_query_that_waits(cli: Cli, processes: list[subprocess.Popen[bytes]]) -> None:
    lock = ProcessLock.acquire(cli.spool.uploader_lock, "uploader")
    submitted(cli.spool, "globex")
    process = cli.start("query", "activity_counts")
    processes.append(process)
    until(lambda: len(tickets_of(cli.spool)) == 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    lock.release()
    ticket = tickets_of(cli.spool)[0]
    assert ticket.status == "cancelled"
    assert process.stderr is not None
    assert process.stderr.read().decode() == f"ticket {ticket.ticket_id}: cancelled\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_has_the_uploader_cancel_a_query_that_runs(cli: Cli, processes: list[subprocess.Popen[bytes]]) -> None:
    with answering(cli.spool, lambda *_: None) as begun:
        process = cli.start("query", "activity_counts")
        processes.append(process)
        until(lambda: bool(begun))
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
    (ticket,) = tickets_of(cli.spool)
    assert ticket.cancel_requested
    assert process.stderr is not None
    assert process.stderr.read().decode() == f"ticket {ticket.ticket_id}: the uploader is cancelling it\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_leaves_a_query_alone_that_somebody_else_asked(
    cli: Cli, processes: list[subprocess.Popen[bytes]]
) -> None:
    earlier = submitted(cli.spool)
    lock = ProcessLock.acquire(cli.spool.uploader_lock, "uploader")
    process = cli.start("query", "activity_counts", "since=7d")
    processes.append(process)
    until(lambda: any(file.path == str(cli.spool.state) for file in psutil.Process(process.pid).open_files()))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    lock.release()
    (ticket,) = tickets_of(cli.spool)
    assert (ticket.ticket_id, ticket.status, ticket.cancel_requested) == (earlier.ticket_id, "queued", False)


def test_without_an_uploader_that_may_be_started_it_is_said_which(cli: Cli) -> None:
    cli.make_spool()
    done = cli.run("query", "activity_counts", code=1, SNOWLEDGER_AUTO_UPLOADER="0")
    assert "start one with: snowledger upload" in done.stderr
    assert tickets_of(cli.spool) == []


def test_an_uploader_that_cannot_work_ends_the_wait_and_the_ticket(cli: Cli) -> None:
    cli.make_spool()
    (cli.home / "warehouse.duckdb").write_bytes(b"no database" * 1000)
    done = cli.run("query", "activity_counts", code=1)
    (ticket,) = tickets_of(cli.spool)
    first, second = done.stderr.splitlines()
    assert first == f"ticket {ticket.ticket_id}: cancelled"
    assert second == f"snowledger: the uploader ended with exit code 3; its log is {cli.home / 'uploader.log'}"
    assert ticket.status == "cancelled"


def test_what_is_not_loaded_in_time_is_said_and_nothing_is_asked(cli: Cli) -> None:
    cli.log(3)
    with closing(Uploader(cli.spool, [sys.executable, "-c", ""])) as uploader:
        with pytest.raises(CommandError, match=r"nothing was asked within 1\.0 s: 3 events to be loaded first"):
            load_first(cli.spool, uploader, 1, lambda _: None)
        assert uploader._process is not None
        uploader._process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_uploader_that_is_killed_is_started_anew_but_not_for_ever(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.log(1)
    monkeypatch.setattr("snowledger.query_wait.UPLOADER_LOOK_S", 0.1)
    killed = "import os, signal; open('starts', 'a').write('x'); os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.chdir(cli.folder)
    with (
        closing(Uploader(cli.spool, [sys.executable, "-c", killed])) as uploader,
        pytest.raises(CommandError, match="the uploader ended with exit code -9; its log is "),
    ):
        load_first(cli.spool, uploader, 20, lambda _: None)
    assert (cli.folder / "starts").read_text() == "x" * MAX_STARTS


def test_a_spool_that_there_is_not_is_not_made(cli: Cli) -> None:
    assert "there is no spool at" in cli.run("query", "activity_counts", code=1).stderr
    assert not cli.home.exists()


def test_progress_is_what_a_waiting_person_wants_to_know(cli: Cli) -> None:
    submitted(cli.spool, at=now(-2))
    waiting = submitted(cli.spool, "globex", at=now(-1))
    assert progress_text(cli.spool, waiting) == "queued, 1 before it"
    claimed = run_next(cli.spool, lambda *_: None)
    assert progress_text(cli.spool, claimed._replace(rows_so_far=2000, started_at=now(-3))) == (
        "running for 3.0 s, 2,000 rows so far"
    )
    (waiting,) = (ticket for ticket in tickets_of(cli.spool) if ticket.status == "queued")
    assert progress_text(cli.spool, waiting) == "queued, next"
