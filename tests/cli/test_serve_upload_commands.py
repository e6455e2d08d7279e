"""``serve`` and ``upload``: how they start, refuse, end and report. What they do is tested with their packages."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from tests.cli.cli_process import Cli, until
from tests.torture.disks import small_disk

from snowledger_queue import lock_holder


def count(path: Path) -> int:
    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.execute("SELECT count(*) FROM activities.events WHERE customer = 'acme'").fetchone()
    assert found is not None
    return int(found[0])


def test_tls_is_for_http_alone(cli: Cli) -> None:
    assert "needs --http" in cli.run("serve", "--tls-cert", "cert.pem", code=2).stderr


def test_a_taken_monitor_port_keeps_no_uploader_of_a_server_from_loading(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monitor = f"127.0.0.1:{taken.getsockname()[1]}"
        cli.log(1)
        assert f"cannot listen on {monitor}" in cli.run("upload", code=3, SNOWLEDGER_MONITOR=monitor).stderr
        cli.run("upload", "--exit-when-unused", SNOWLEDGER_MONITOR=monitor)
    assert count(cli.home / "warehouse.duckdb") == 1


def test_serve_ends_with_its_input_and_says_nothing_on_stdout(cli: Cli) -> None:
    assert cli.run("serve", "--no-uploader").stdout == ""
    assert cli.json("status")["servers"] == 0


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"SNOWLEDGER_HOME": "/dev/null/spool"}, "cannot create the folder"),
        ({"SNOWLEDGER_CUSTOMER": "a/b"}, "environment variable SNOWLEDGER_CUSTOMER: 'a/b' is not accepted"),
        ({"SNOWLEDGER_CONFIG": "missing.toml"}, "cannot read the settings file"),
    ],
)
def test_what_cannot_start_ends_with_3_and_one_line(variables: dict[str, str], reason: str, cli: Cli) -> None:
    for command in (["serve", "--no-uploader"], ["upload", "--once"]):
        done = cli.run(*command, code=3, **variables)
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert reason in line


@pytest.mark.parametrize("command", ["serve", "upload"])
def test_on_a_read_only_disk_nothing_starts_and_the_reason_is_told(command: str, cli: Cli, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "ro") as disk:
        done = cli.run(command, code=3, SNOWLEDGER_HOME=str(disk / "spool"))
        assert "cannot create the folder" in done.stderr
        assert "Read-only file system" in done.stderr
    with small_disk(tmp_path / "another") as disk:
        cli.run("serve", "--no-uploader", SNOWLEDGER_HOME=str(disk / "spool"))
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        done = cli.run(command, code=3, SNOWLEDGER_HOME=str(disk / "spool"))
        assert f"{disk / 'spool'} cannot be written (read-only, or mode 700)" in done.stderr


def test_upload_once_reports_in_one_line_and_nothing_else_in_a_pipe(cli: Cli) -> None:
    cli.log(5)
    done = cli.run("upload", "--once")
    # That the new file got its schema is an event as well, but nobody's.
    assert done.stdout.startswith("loaded 5 events in 1 batch: 5 new, 0 duplicates, 0 dead letters (")
    assert done.stderr == ""
    assert count(cli.home / "warehouse.duckdb") == 5
    assert cli.run("upload", "--once").stdout.startswith("loaded 0 events in 0 batches: ")
    last = cli.json("status")["uploader"]["last_batch"]
    assert last is None or last["inserted"] == 5


def test_duplicates_are_counted(cli: Cli) -> None:
    line = '{"activity":"cdesk.user_asked","customer":"acme","ts":"2026-01-01T00:00:00Z","feature_json":{}}\n'
    cli.run("import", "-", text=line)
    cli.run("import", "-", text=line)
    assert "loaded 2 events in 1 batch: 1 new, 1 duplicate," in cli.run("upload", "--once").stdout
    assert count(cli.home / "warehouse.duckdb") == 1


def test_upload_into_a_file_of_ones_own(cli: Cli) -> None:
    cli.log(1)
    cli.run("upload", "--once", "--duckdb-path", "own.duckdb")
    assert count(cli.folder / "own.duckdb") == 1
    assert not (cli.home / "warehouse.duckdb").exists()


@pytest.mark.parametrize(("error", "code"), [("WarehouseRefusedError", 3), ("WarehouseUnavailableError", 1)])
def test_a_supervisor_can_tell_a_warehouse_that_needs_a_person(error: str, code: int, cli: Cli) -> None:
    program = (
        "import snowledger_uploader as uploader\n"
        f"def run(*_): raise uploader.{error}('the reason')\n"
        "uploader.run = run\n"
        "from snowledger.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "upload", "--once"],
        env=cli.environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "snowledger: the reason\n")


def test_snowflake_needs_a_connection(cli: Cli) -> None:
    done = cli.run("upload", code=3, SNOWLEDGER_WAREHOUSE="snowflake")
    assert "set SNOW_CONNECTION to a name in connections.toml" in done.stderr
    assert not cli.home.exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_second_uploader_is_refused_naming_the_first_which_ends_in_order(
    cli: Cli, processes: list[subprocess.Popen[bytes]]
) -> None:
    first = cli.start("upload")
    processes.append(first)
    until(lambda: lock_holder(cli.spool.uploader_lock) is not None)
    second = cli.run("upload", "--once", code=4)
    (line,) = second.stderr.splitlines()
    assert f"held by process {first.pid} since " in line
    assert cli.json("status")["uploader"]["pid"] == first.pid
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=15) == 0
    assert cli.json("status")["uploader"]["state"] == "stopped"


async def test_serve_starts_an_uploader_that_ends_with_it(cli: Cli) -> None:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "snowledger", "serve"], env=cli.environment({}), cwd=cli.folder
    )
    database = cli.home / "warehouse.duckdb"
    async with Client(stdio_client(server)) as client:
        done = await client.call_tool("log_event", {"activity": "cdesk.user_asked", "feature_json": {"question": "?"}})
        assert not done.is_error
        until(lambda: lock_holder(cli.spool.uploader_lock) is not None)
    until(lambda: lock_holder(cli.spool.uploader_lock) is None and cli.statistics().events == 0)
    assert count(database) == 1
    assert "snowledger_uploader" in (cli.home / "uploader.log").read_text(encoding="utf-8")


async def test_serve_offers_the_templates_of_the_users_folder(cli: Cli) -> None:
    (cli.folder / "own.sql").write_text(
        '-- ---\n-- answers = "How many."\n-- ---\nSELECT COUNT(*) AS n FROM events WHERE customer = $customer\n'
    )
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "snowledger", "serve", "--no-uploader"],
        env=cli.environment({"SNOWLEDGER_TEMPLATES_DIR": str(cli.folder)}),
        cwd=cli.folder,
    )
    async with Client(stdio_client(server)) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert "own" in tools["submit_query"].input_schema["properties"]["template"]["enum"]


def test_an_uploader_started_by_serve_leaves_its_reason_in_its_log(cli: Cli) -> None:
    log = cli.folder / "uploader.log"
    cli.run("upload", "--exit-when-unused", "--log-file", log, code=3, SNOWLEDGER_LOG_LEVEL="loud")
    (line,) = log.read_text(encoding="utf-8").splitlines()
    assert "ERROR" in line
    assert "'loud' is not accepted" in line
    done = cli.run("upload", "--log-file", "/dev/null/x", code=3)
    assert "cannot write the log file" in done.stderr
