"""``snowledger demo``: a client logs a session, the uploader loads it, and the warehouse is asked what arrived."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table

from snowledger_queue import open_spool

from .errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

CUSTOMER = "demo"

TURNS = 24
"""Questions in the session; each is some nine calls, so that there are more than 200."""

PAUSE_S = 0.012
"""Between calls, so that the session lasts a few seconds and is loaded while it goes on, as a real one is."""

UPLOADER_END_S = 20.0
"""How long the uploader may take for the rest once the session is over."""


class Session(NamedTuple):
    """What the client saw."""

    acks_ms: list[float]
    event_ids: set[str]
    """What was acknowledged; a repeated idempotency key answers the same id."""
    refusals: list[str]
    seconds: float
    learnt: dict[str, Any]
    """The last value of each subject."""
    recalled: dict[str, Any]
    """What get_context had of them, right after the last call."""
    recall_ms: float


def run_demo(home: Path | None = None, *, keep: bool = False) -> int:
    """Run the demonstration; return the exit code (0 when everything that was acknowledged arrived).

    ``home`` is the folder to use, which stays; without it a temporary one, deleted at the end unless ``keep``.
    """
    console = Console(highlight=False)
    if home is not None and (home / "format").exists():
        raise CommandError(f"{home} is a spool in use; the demo would load its events among yours, name another folder")
    ended = _exit_on_signals()
    with ExitStack() as stack:
        if home is None:
            prefix = "snowledger-demo-"
            home = Path(
                tempfile.mkdtemp(prefix=prefix)
                if keep
                else stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix))
            )
        else:
            keep = True
        warehouse = home / "warehouse.duckdb"
        open_spool(home / "spool")  # what is wrong with the folder is better said here than by the server
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SNOWLEDGER_")},
            "SNOWLEDGER_HOME": str(home / "spool"),
            "SNOWLEDGER_CUSTOMER": CUSTOMER,
            "SNOWLEDGER_DUCKDB_PATH": str(warehouse),
            "SNOWLEDGER_LOG_LEVEL": "error",
        }
        console.print("[bold]1[/] Starting an MCP server and an uploader: two processes, one folder between them")
        console.print(f"[bold]2[/] A client logs a session of {TURNS} questions over MCP, as Claude Desktop would")
        session = _driven(environment, ended)
        console.print(
            f"  {len(session.acks_ms)} calls acknowledged in {session.seconds:.1f} s, durable on disk: "
            f"p50 {_quantile(session.acks_ms, 50):.2f} ms, p95 {_quantile(session.acks_ms, 95):.2f} ms"
        )
        for refusal in session.refusals:
            console.print("  1 call refused: ", end="")
            console.print(refusal, style="dim", markup=False)
        console.print("[bold]3[/] get_context recalls what was learnt, wherever it is by now: queue or warehouse")
        console.print(f"  {len(session.recalled)} insights in {session.recall_ms:.2f} ms, each the last of its subject")
        console.print("[bold]4[/] Asking the DuckDB file what arrived")
        arrived = _report(console, warehouse, session)
        if keep:
            console.print(f"Kept: {warehouse} (schema activities; open it with any DuckDB client)", soft_wrap=True)
    if sorted(arrived) != sorted(session.event_ids) or len(session.refusals) != 1:
        console.print(
            f"[red]{len(session.event_ids)} events were acknowledged, {len(arrived)} of them are in the warehouse, "
            f"{len(session.refusals)} calls were refused (1 is meant to be)[/]"
        )
        return 1
    if session.recalled != session.learnt:
        console.print(f"[red]{session.learnt} was learnt, {session.recalled} recalled[/]")
        return 1
    console.print(f"[green]All {len(session.event_ids)} acknowledged events are in the warehouse, once each.[/]")
    return 0


def _exit_on_signals() -> list[int]:
    """Have the temporary folder and the two processes go also when a supervisor or a closed terminal ends this one.

    The list gets the exit code.
    """
    codes: list[int] = []

    def end(number: int, _frame: object) -> None:
        codes.append(128 + number)
        sys.exit(codes[0])

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)
    return codes


def _driven(environment: dict[str, str], ended: list[int]) -> Session:
    try:
        return asyncio.run(_drive(environment))
    except BaseExceptionGroup:
        if ended:  # between two calls: the client's task groups wrap what ended them
            sys.exit(ended[0])
        raise


async def _drive(environment: dict[str, str]) -> Session:
    """Run server, client and uploader until all three have ended."""
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters

    command = [sys.executable, "-m", "snowledger"]
    server = StdioServerParameters(command=command[0], args=[*command[1:], "serve", "--no-uploader"], env=environment)
    session = Session([], set(), [], 0.0, {}, {}, 0.0)
    uploader: subprocess.Popen[bytes] | None = None
    try:
        async with Client(server, mode="legacy") as client:
            # Only now, for it ends by itself when no server is there.
            uploader = subprocess.Popen(  # noqa: S603, ASYNC220 - our own command, started once
                [*command, "upload", "--exit-when-unused"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            started = time.monotonic()
            for tool, arguments in _session():
                begun = time.perf_counter()
                result = await client.call_tool(tool, arguments)
                elapsed = time.perf_counter() - begun
                if result.is_error or result.structured_content is None:
                    session.refusals.append(getattr(result.content[0], "text", "no reason given"))
                else:
                    session.acks_ms.append(elapsed * 1000)
                    session.event_ids.add(str(result.structured_content["event_id"]))
                    if tool == "log_insight":
                        session.learnt[arguments["subject"]] = arguments["value"]
                await asyncio.sleep(PAUSE_S)
            seconds = time.monotonic() - started
            begun = time.perf_counter()
            context = (await client.call_tool("get_context", {})).structured_content or {}
            recall_ms = (time.perf_counter() - begun) * 1000
        await asyncio.to_thread(uploader.wait, UPLOADER_END_S)
    finally:
        if uploader is not None and uploader.poll() is None:
            uploader.kill()
            uploader.wait()
    recalled = {insight["subject"]: insight["value"] for insight in context.get("insights", ())}
    return session._replace(seconds=seconds, recalled=recalled, recall_ms=recall_ms)


def _session() -> Iterator[tuple[str, dict[str, Any]]]:
    """The calls of a working hour: questions, tools, SQL, files, insights, and what goes wrong."""
    chance = random.Random(7)  # noqa: S311 - the same session every time
    subjects = ("product/pro", "product/team", "region/emea", "region/amer", "customer/acme")

    def event(name: str, **features: object) -> tuple[str, dict[str, Any]]:
        return "log_event", {"activity": f"cdesk.{name}", "feature_json": features}

    yield event("session_started", client="demo", model="claude")
    for turn in range(TURNS):
        subject = chance.choice(subjects)
        query_hash = hashlib.sha256(f"revenue of {subject} in turn {turn}".encode()).hexdigest()
        yield event("user_asked", turn=turn, characters=chance.randint(20, 400))
        for tool in ("search", "schema", "read_file"):
            yield event("tool_called", tool=tool, latency_ms=chance.randint(8, 900), ok=chance.randrange(20) > 0)
        yield event("file_read", path=f"reports/{subject}.md", bytes=chance.randint(400, 90_000))
        yield event("sql_executed", query_hash=query_hash, turn=turn)
        yield event("sql_completed", query_hash=query_hash, rows=chance.randint(1, 5000), ms=chance.randint(40, 4000))
        insight = {"subject": subject, "metric": "mrr_usd", "value": round(chance.uniform(1_000, 90_000), 2)}
        yield "log_insight", {**insight, "provenance_query_hash": query_hash}
        if chance.randrange(5) == 0:
            yield event("error_encountered", where="sql", message="statement timed out", retryable=True)
            yield event("retry_attempted", where="sql", attempt=1)
        yield event("claude_responded", turn=turn, tokens=chance.randint(80, 2000))
    summary = {"activity": "cdesk.file_written", "feature_json": {"path": "summary.md", "bytes": 5120}}
    for _ in range(2):  # a retry with the same key is one event
        yield "log_event", {**summary, "idempotency_key": "summary of the demo session"}
    yield "log_event", {"activity": "sales.order_placed", "feature_json": {}}
    yield event("session_ended", turns=TURNS)


def _report(console: Console, warehouse: Path, session: Session) -> list[str]:
    """Print what the warehouse holds; return the ids of the session's events in it, each as often as it is there."""
    import duckdb

    with duckdb.connect(str(warehouse), read_only=True) as connection:

        def rows(sql: str, *parameters: object) -> list[tuple[Any, ...]]:
            return connection.execute(sql, parameters).fetchall()

        ids = list(session.event_ids)
        table = Table("activity", "events", "first", "last", title="activities.events", title_justify="left")
        for row in rows(
            "SELECT activity, count(*), strftime(min(ts), '%H:%M:%S'), strftime(max(ts), '%H:%M:%S') "
            "FROM activities.events WHERE activity_id IN (SELECT unnest(?)) GROUP BY ALL ORDER BY 2 DESC, 1",
            ids,
        ):
            table.add_row(*map(str, row))
        console.print(table)
        atoms = Table(
            "subject",
            "metric",
            "value",
            "verified",
            title="activities.insight_atoms, newest of each",
            title_justify="left",
        )
        for row in rows(
            "SELECT subject, metric, arg_max(value, recorded_at), arg_max(verified, recorded_at) "
            "FROM activities.insight_atoms WHERE atom_id IN (SELECT unnest(?)) GROUP BY ALL ORDER BY ALL",
            ids,
        ):
            atoms.add_row(*map(str, row))
        console.print(atoms)
        loaded = rows(
            "SELECT activity_id, epoch(_loaded_at - ts), _batch_id FROM activities.events "
            "WHERE activity_id IN (SELECT unnest(?))",
            ids,
        )
    if loaded:
        lags = [row[1] for row in loaded]
        console.print(
            f"  {len(loaded)} events in {len({row[2] for row in loaded})} batches; from logged to loaded: "
            f"p50 {_quantile(lags, 50):.2f} s, p95 {_quantile(lags, 95):.2f} s"
        )
    return [row[0] for row in loaded]


def _quantile(values: list[float], percent: int) -> float:
    if len(values) < 2:  # noqa: PLR2004 - what statistics needs
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
