"""What a new user sees: an event logged over MCP is in the warehouse within seconds, and the demo shows it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import psutil
import pytest
from mcp import Client
from tests.acceptance.ledger import Ledger, wait_until
from tests.thorough import variants

EVENTS = "SELECT activity, customer, feature_json FROM activities.events WHERE activity_id = ?"
ATOMS = "SELECT subject, metric, value, verified, is_quarantined FROM activities.insight_atoms WHERE atom_id = ?"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_logged_event_and_insight_are_in_the_warehouse_within_five_seconds(ledger: Ledger, mode: str) -> None:
    insight = {"subject": "customer/acme", "metric": "mrr_usd", "value": 1250, "provenance_query_hash": "ab" * 32}
    async with Client(ledger.server(), mode=mode) as client:
        # The uploader that the server starts takes seconds on a busy machine.
        await client.call_tool("log_event", {"activity": "cdesk.session_started", "feature_json": {}})
        await anyio.to_thread.run_sync(wait_until, lambda: ledger.spool.statistics().events == 0)
        logged = await client.call_tool("log_event", {"activity": "cdesk.user_asked", "feature_json": {"q": "why?"}})
        acked = time.monotonic()
        recorded = await client.call_tool("log_insight", insight)
        assert logged.structured_content is not None
        assert recorded.structured_content is not None
        event_id, atom_id = logged.structured_content["event_id"], recorded.structured_content["event_id"]
        # Not by asking the warehouse, for who reads the file keeps the uploader out.
        await anyio.to_thread.run_sync(wait_until, lambda: ledger.spool.statistics().events == 0)
        assert time.monotonic() - acked < 5
        assert ledger.rows(EVENTS, event_id) == [("cdesk.user_asked", "acme", '{"q":"why?"}')]
        assert ledger.rows(ATOMS, atom_id) == [("customer/acme", "mrr_usd", "1250", False, False)]
    await anyio.to_thread.run_sync(wait_until, lambda: ledger.processes() == [])


def test_the_demo_shows_what_arrived_and_leaves_nothing_behind(ledger: Ledger) -> None:
    temporary = ledger.folder / "tmp"
    temporary.mkdir()
    started = time.monotonic()
    demo = subprocess.run(
        [sys.executable, "-m", "snowledger", "demo"],
        cwd=ledger.folder,
        env={**ledger.environment, "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=55,
    )
    assert demo.returncode == 0, demo.stderr
    assert time.monotonic() - started < 30
    said = " ".join(demo.stdout.split())
    for words in (
        "calls acknowledged",
        "p50",
        "p95",
        "1 call refused",
        "get_context recalls",
        "5 insights in",
        "from logged to loaded",
        "activities.events",
        "cdesk.tool_called",
        "activities.insight_atoms",
        "acknowledged events are in the warehouse, once each.",
    ):
        assert words in said
    assert int(said.split(" calls acknowledged")[0].split()[-1]) >= 200
    assert demo.stderr == ""
    assert list(temporary.iterdir()) == []
    assert not ledger.home.exists(), "the user's own spool is not touched"
    left = [process.pid for process in psutil.process_iter() if _uses(process, temporary)]
    assert left == []


def _uses(process: psutil.Process, folder: Path) -> bool:
    try:
        words = [*process.cmdline(), *process.environ().values()]
    except psutil.Error:
        return False
    return process.pid != os.getpid() and any(str(folder) in word for word in words)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("name", variants("SIGTERM", "SIGHUP", "SIGINT"))
def test_a_demo_that_is_ended_halfway_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    number = signal.Signals[name]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "snowledger", "demo"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as demo:
        wait_until(lambda: any(tmp_path.glob("*/spool/uploader.lock")), "the session is under way")
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) >= 2
        demo.send_signal(number)
        _, said = demo.communicate(timeout=10)
        assert demo.returncode == (130 if number == signal.SIGINT else 128 + number), said.decode()
        assert b"Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert psutil.wait_procs(children, timeout=10)[1] == []


ENDED_BETWEEN_CALLS = """
import os, signal, sys
from snowledger import demo

calls = demo._session

def session():
    for number, call in enumerate(calls()):
        if number == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        yield call

demo._session = session
sys.exit(demo.run_demo())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_demo_that_is_ended_between_two_calls_ends_as_quietly(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDED_BETWEEN_CALLS]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.run(command, env=environment, capture_output=True, timeout=20, check=False)
    assert b"Traceback" not in demo.stderr
    assert demo.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
