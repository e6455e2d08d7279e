"""``snowledger status``.

The JSON's keys are stable::

    home          the spool folder
    queue         events, bytes, oldest_age_s (null: empty), sealed_segments, active_segments, torn_tails
    uploader      running, pid (null: none); and, all null if none ever ran here: state (starting, idle,
                  loading, waiting, authentication needed, stopped), problem (null: none), updated_at, batches,
                  events, inserted, dead_letters (these four since it started), last_batch (null: none yet;
                  batch_id, events, inserted, loaded_at, seconds, lag_s: from logged to queryable), contexts_as_of
                  (null: not yet compared with the warehouse since it started), contexts_problem (null: none)
    servers       how many serve this spool
    dead_letters  total, damaged, rejected
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .spools import dead_letters, existing_spool
from .terminal import count, duration, size

if TYPE_CHECKING:
    from rich.console import RenderableType

    from snowledger_queue import Spool


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
    from .settings import load_settings

    spool = existing_spool(load_settings(home=home).home)
    if watch and not as_json and sys.stdout.isatty():
        _draw(spool, interval)
    while True:
        report = collect(spool)
        if as_json:
            typer.echo(json.dumps(report, indent=None if watch else 2))
        else:
            typer.echo("\n".join(f"{name:<14}{value}" for name, value in rows(report)))
        if not watch:
            return
        sys.stdout.flush()
        time.sleep(interval)


def collect(spool: Spool) -> dict[str, Any]:
    """Measure the spool; the keys are those of the JSON."""
    from snowledger_queue import live_servers, lock_holder, read_uploader_status

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
    if said is not None and holder is None:
        uploader["state"] = "stopped"  # killed, it could not say so itself
    classes = Counter(letter.error_class for letter in dead_letters(spool))
    return {
        "home": str(spool.home),
        "queue": spool.statistics()._asdict(),
        "uploader": uploader,
        "servers": live_servers(spool),
        "dead_letters": {
            "total": classes.total(),
            "damaged": classes["damaged"],
            "rejected": classes["rejected"],
        },
    }


def rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The report for people."""
    queue, uploader, letters = report["queue"], report["uploader"], report["dead_letters"]
    last = uploader["last_batch"]
    lines = [
        ("spool", report["home"]),
        ("queue", f"{count(queue['events'], 'event')}, {size(queue['bytes'])}"),
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
    contexts = [f"as of {uploader['contexts_as_of']}"] if uploader["contexts_as_of"] else []
    contexts += [uploader["contexts_problem"]] if uploader["contexts_problem"] else []
    if contexts:
        lines.append(("contexts", "; ".join(contexts)))
    lines.append(
        (
            "dead letters",
            f"{letters['total']:,} ({letters['damaged']:,} damaged, {letters['rejected']:,} rejected)",
        )
    )
    return lines


def _draw(spool: Spool, interval: float) -> None:
    """Redraw in place until Ctrl-C."""
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def table() -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        for name, value in rows(collect(spool)):
            grid.add_row(Text(name, style="bold"), Text(value))
        return grid

    with Live(table(), auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            live.update(table(), refresh=True)
