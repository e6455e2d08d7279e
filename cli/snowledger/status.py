"""``snowledger status``.

The JSON's keys are stable::

    home          the spool folder
    queue         events, bytes, oldest_age_s (null: empty), sealed_segments, active_segments, torn_tails, pressure
                  (state: normal, sampling, refusing; reason: null, bytes, events, age, disk; problem: the same in
                  words, null: none; free_bytes: of the disk; limits: max_bytes, events, age_s, min_free_bytes)
    uploader      running, pid (null: none); and, all null if none ever ran here: state (starting, idle,
                  loading, waiting, authentication needed, stopped), problem (null: none), updated_at, batches,
                  events, inserted, dead_letters (these four since it started), last_batch (null: none yet;
                  batch_id, events, inserted, loaded_at, seconds, lag_s: from logged to queryable), contexts_as_of
                  (null: not yet compared with the warehouse since it started), contexts_problem (null: none),
                  breaker (state: closed, open, half-open; since, failures, next_probe_in_s (null: not open), opened,
                  retries)
    servers       how many serve this spool
    dead_letters  total, damaged, rejected, incompatible, unreadable, foreign, oldest_age_s (null: there are none),
                  problem (null: none; names files of them that cannot be read, what is in them is not counted)
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .spools import existing_spool
from .terminal import count, duration, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from snowledger_queue import BreakerStatus, DeadLetterCounter, PressureLimits, Spool


def status(
    home: options.Home = None,
    as_json: options.Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, metavar="SECONDS", help="How often with --watch.")
    ] = 1.0,
) -> None:
    """Show the queue, the uploader and the dead letters.

    Works whether or not anything runs. Try it: snowledger status --watch
    """
    from snowledger_queue import DeadLetterCounter

    from .pressure import pressure_limits
    from .settings import load_settings

    settings = load_settings(home=home)
    spool, limits = existing_spool(settings.home), pressure_limits(settings)
    counter = DeadLetterCounter(spool)
    if watch and not as_json and sys.stdout.isatty():
        _draw(spool, limits, counter, interval)
    while True:
        report = collect(spool, limits, counter)
        if as_json:
            typer.echo(json.dumps(report, indent=None if watch else 2))
        else:
            typer.echo("\n".join(f"{name:<14}{value}" for name, value in rows(report)))
        if not watch:
            return
        sys.stdout.flush()
        time.sleep(interval)


def collect(spool: Spool, limits: PressureLimits, counter: DeadLetterCounter | None = None) -> dict[str, Any]:
    """Measure the spool; the keys are those of the JSON. Whoever does it often keeps the ``counter``."""
    from snowledger_queue import DeadLetterCounter, live_servers, lock_holder, read_uploader_status

    from .pressure import as_json, measured_pressure

    holder = lock_holder(spool.uploader_lock)
    said = read_uploader_status(spool)
    uploader: dict[str, Any] = {
        "running": holder is not None,
        "pid": None if holder is None else holder.get("pid"),
    }
    names = (
        *("state", "problem", "updated_at", "batches", "events", "inserted", "dead_letters", "last_batch"),
        *("contexts_as_of", "contexts_problem"),
    )
    uploader |= dict.fromkeys(names) if said is None else {name: asdict(said)[name] for name in names}
    uploader["breaker"] = None if said is None or said.breaker is None else _breaker(said.breaker)
    if said is not None and holder is None:
        uploader["state"] = "stopped"  # killed, it could not say so itself
    return {
        "home": str(spool.home),
        "queue": {**spool.statistics()._asdict(), "pressure": as_json(measured_pressure(spool, limits))},
        "uploader": uploader,
        "servers": live_servers(spool),
        "dead_letters": _letters(counter or DeadLetterCounter(spool)),
    }


def rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The report for people."""
    queue, uploader, letters = report["queue"], report["uploader"], report["dead_letters"]
    pressure = queue["pressure"]
    problem = pressure["problem"]
    last = uploader["last_batch"]
    lines = [
        ("spool", report["home"]),
        ("queue", f"{count(queue['events'], 'event')}, {size(queue['bytes'])}"),
        ("pressure", f"{pressure['state']}{'' if problem is None else f': {problem}'}"),
        ("oldest", "-" if queue["oldest_age_s"] is None else duration(queue["oldest_age_s"])),
        ("segments", f"{queue['sealed_segments']} sealed, {queue['active_segments']} active"),
        ("torn tails", f"{queue['torn_tails']:,}"),
        ("servers", f"{report['servers']}"),
        (
            "uploader",
            f"{uploader['state']}, process {uploader['pid']}" if uploader["running"] else "not running",
        ),
    ]
    if uploader["problem"]:
        lines.append(("problem", uploader["problem"]))
    if last is not None:
        lines += [
            (
                "last batch",
                f"{count(last['events'], 'event')}, {last['inserted']:,} new, at {last['loaded_at']}",
            ),
            ("lag", f"{duration(last['lag_s'])} from logged to queryable"),
        ]
    breaker = uploader["breaker"]
    if breaker is not None and breaker["state"] != "closed" and uploader["running"]:
        probe = "" if breaker["next_probe_in_s"] is None else f", asked again in {duration(breaker['next_probe_in_s'])}"
        lines.append(("breaker", f"{breaker['state']} since {breaker['since']}{probe}"))
    contexts = [f"as of {uploader['contexts_as_of']}"] if uploader["contexts_as_of"] else []
    contexts += [uploader["contexts_problem"]] if uploader["contexts_problem"] else []
    if contexts:
        lines.append(("contexts", "; ".join(contexts)))
    lines.append(("dead letters", _letters_in_words(letters)))
    if letters["problem"]:
        lines.append(("", letters["problem"]))
    return lines


def _letters(counter: DeadLetterCounter) -> dict[str, Any]:
    from snowledger_queue import CLASSES

    found = counter.counts()
    classes = {name: found.classes.get(name, 0) for name in CLASSES}
    age_s = None if found.oldest is None else _since(found.oldest)
    return {"total": found.total, **classes, "oldest_age_s": age_s, "problem": _unread(found.unread)}


def _unread(files: Sequence[str]) -> str | None:
    if not files:
        return None
    more = f" and {count(len(files) - 1, 'more file')}" if files[1:] else ""
    return f"{files[0]}{more} cannot be read as dead letters: see what is damaged, and move it out of the folder"


def _letters_in_words(letters: dict[str, Any]) -> str:
    from snowledger_queue import CLASSES

    if not letters["total"]:
        return "none that can be read" if letters["problem"] else "none"
    kinds = ", ".join(f"{letters[name]:,} {name}" for name in CLASSES if letters[name])
    return f"{letters['total']:,} ({kinds}), the oldest {duration(letters['oldest_age_s'])} old"


def _since(moment: str) -> float:
    return max(0.0, round((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds(), 3))


def _breaker(said: BreakerStatus) -> dict[str, Any]:
    fields = asdict(said)
    probe_at = fields.pop("next_probe_at")
    left_s = None
    if probe_at is not None:
        left_s = max(0.0, round((datetime.fromisoformat(probe_at) - datetime.now(UTC)).total_seconds(), 3))
    return {**fields, "next_probe_in_s": left_s}


def _draw(spool: Spool, limits: PressureLimits, counter: DeadLetterCounter, interval: float) -> None:
    """Redraw in place until Ctrl-C."""
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def table() -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        for name, value in rows(collect(spool, limits, counter)):
            grid.add_row(Text(name, style="bold"), Text(value))
        return grid

    with Live(table(), auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            live.update(table(), refresh=True)
