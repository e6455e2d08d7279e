"""What holds for every command: help, version, exit codes, one line for an error, and what is not loaded."""

import os
import signal
import subprocess
import sys

import pytest
from tests.cli.cli_process import Cli, imported_by, until

COMMANDS = [
    *("serve", "upload", "status", "doctor", "import", "demo", "dead-letter", "install"),
    *("query", "templates", "tickets", "artifacts", "kill-switch"),
]


def test_version_is_the_projects(cli: Cli) -> None:
    assert cli.run("--version").stdout == "snowledger 0.1.0\n"


def test_help_names_every_command_and_commands_have_their_own(cli: Cli) -> None:
    listing = cli.run("--help").stdout
    assert [name for name in COMMANDS if f"\n  {name} " not in listing] == []
    for name in ("serve", "import", "dead-letter"):
        assert cli.run(name, "--help").stdout.startswith(f"Usage: snowledger {name} ")


def test_version_and_help_load_nothing_heavy(cli: Cli) -> None:
    for arguments in (["--version"], ["upload", "--help"]):
        loaded = imported_by(cli, *arguments)
        heavy = {"asyncio", "duckdb", "mcp", "pydantic_settings", "rich", "snowledger_queue"}
        assert loaded & heavy == set()


def test_serve_loads_no_warehouse_driver_no_sql_parser_and_nothing_that_draws(cli: Cli) -> None:
    loaded = imported_by(cli, "serve", "--no-uploader")
    assert "snowledger_server" in loaded
    assert loaded & {"duckdb", "rich", "sqlglot", "snowledger_uploader"} == set()


def test_commands_that_only_look_load_neither_server_nor_warehouse(cli: Cli) -> None:
    cli.log(1)
    for arguments in (["status"], ["dead-letter", "list"]):
        loaded = imported_by(cli, *arguments)
        assert loaded & {"duckdb", "rich", "mcp", "snowledger_server", "snowledger_uploader"} == set()


def test_unknown_command_is_a_usage_error_with_a_suggestion(cli: Cli) -> None:
    done = cli.run("statsu", code=2)
    assert "status" in done.stderr
    assert done.stdout == ""


def test_an_unexpected_error_is_one_line_that_tells_how_to_see_more(cli: Cli) -> None:
    program = (
        "import snowledger.__main__ as entry\n"
        "def broken(**_): raise ZeroDivisionError('two\\nlines \\x1b[31m')\n"
        "entry.app = broken\n"
        "entry.main()\n"
    )
    for debug, traceback in (("", False), ("0", False), ("1", True)):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=cli.environment({"SNOWLEDGER_DEBUG": debug}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 70
        last = done.stderr.splitlines()[-1]
        assert last == (
            "snowledger: unexpected ZeroDivisionError: two lines \\x1b[31m; "
            "run with SNOWLEDGER_DEBUG=1 for the traceback"
        )
        assert ("Traceback" in done.stderr) is traceback
        assert traceback or len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_a_watch_with_130_and_says_nothing(cli: Cli, processes: list[subprocess.Popen[bytes]]) -> None:
    cli.log(1)
    process = cli.start("status", "--watch")
    processes.append(process)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=3) == 130
    assert process.stderr is not None
    assert process.stderr.read() == b""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_an_import_with_130_and_says_how_far_it_got(
    cli: Cli, processes: list[subprocess.Popen[bytes]]
) -> None:
    process = cli.start("import", "-")
    processes.append(process)
    assert process.stdin is not None
    process.stdin.write(b'{"activity":"cdesk.x","customer":"a","ts":"2026-01-01","feature_json":{}}\n')
    process.stdin.flush()
    until(lambda: cli.statistics().events == 1)
    process.send_signal(signal.SIGINT)
    # The silent pipe on standard input must not keep it.
    assert process.wait(timeout=3) == 130
    assert process.stderr is not None
    assert process.stderr.read() == b"interrupted with 1 event queued; import again, what is queued counts once\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_reader_that_goes_away_is_no_error(cli: Cli, processes: list[subprocess.Popen[bytes]]) -> None:
    cli.log(1)
    reader, writer = os.pipe()
    os.close(reader)
    for arguments in (["status"], ["doctor"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-m", "snowledger", *arguments],
            env=cli.environment({}),
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
        assert done.returncode != 0
        assert done.stderr == b""
    os.close(writer)

    watching = cli.start("status", "--watch", "--json", "--interval", "0.1")
    processes.append(watching)
    assert watching.stdout is not None
    assert watching.stderr is not None
    watching.stdout.readline()
    watching.stdout.close()
    assert watching.wait(timeout=10) != 0
    assert watching.stderr.read() == b""


def test_the_demo_does_not_mix_its_events_with_those_of_a_spool(cli: Cli) -> None:
    cli.make_spool()
    assert "is a spool in use" in cli.run("demo", "--home", cli.home, code=1).stderr
