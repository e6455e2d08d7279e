"""``snowledger kill-switch``: stop all queries at once, and allow them again. Loading goes on.

The JSON's keys are stable: on, reason (empty while it is off), since (null: never used), by (operator or budget; null:
never used).
"""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .errors import CommandError
from .own_events import log_own_event
from .spools import existing_spool
from .terminal import printable
from .ticket_store import timestamp_now

if TYPE_CHECKING:
    from pathlib import Path

    from snowledger_queue import Spool, Tickets

_NO_REASON = "turned on by the operator"

MAX_REASON_CHARACTERS = 500
"""A sentence or two; every call that is refused repeats it."""

app = typer.Typer(no_args_is_help=True, help="Stop all queries at once, and allow them again.")


@app.command("on")
def turn_on(
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; whoever asks for a query is told.")
    ] = _NO_REASON,
    home: options.Home = None,
) -> None:
    """Cancel every query that runs or waits, and refuse new ones.

    Works whether or not an uploader runs. Events are logged and loaded as before.

    Try it: snowledger kill-switch on --reason "the warehouse is being moved"
    """
    from snowledger_queue import InvalidEventError, check_text

    reason = reason.strip() or _NO_REASON
    try:
        check_text(reason, "reason")
    except InvalidEventError as error:
        raise typer.BadParameter(str(error)) from None
    if len(reason) > MAX_REASON_CHARACTERS:
        message = f"a reason has at most {MAX_REASON_CHARACTERS} characters"
        raise typer.BadParameter(message)
    spool = _spool(home)
    changed = _turn(spool, on=True, reason=reason)
    typer.echo(printable(f"the kill switch is {'on' if changed else 'still on'}: {reason}"))


@app.command("off")
def turn_off(home: options.Home = None) -> None:
    """Allow queries again, also after the budget stopped them.

    Try it: snowledger kill-switch off
    """
    spool = _spool(home)
    changed = _turn(spool, on=False, reason="")
    typer.echo(f"the kill switch is off{'' if changed else ', as it was'}")


@app.command("status")
def status(home: options.Home = None, as_json: options.Json = False) -> None:
    """Show whether queries are taken, and if not, since when and why.

    Try it: snowledger kill-switch status
    """
    with _tickets(_spool(home)) as tickets:
        switch = tickets.kill_switch()
    if as_json:
        typer.echo(json.dumps(switch._asdict(), indent=2))
    elif switch.on:
        since = "" if switch.since is None else f" since {switch.since} by {switch.by}"
        typer.echo(printable(f"on{since}: {switch.reason}"))
    else:
        typer.echo("off" if switch.since is None else f"off since {switch.since}")


def _tickets(spool: Spool) -> closing[Tickets]:
    from snowledger_queue import Tickets

    return closing(Tickets(spool))


def _turn(spool: Spool, *, on: bool, reason: str) -> bool:
    from snowledger_queue import StateError, lock_holder

    try:
        with _tickets(spool) as tickets:
            changed = tickets.set_kill_switch(on=on, reason=reason, by="operator", now=timestamp_now())
    except StateError as error:
        holder = lock_holder(spool.uploader_lock)
        advice = (
            "no uploader runs, and so no query"
            if holder is None
            else f"to stop queries without it, end the uploader, process {holder.get('pid')}"
        )
        raise CommandError(f"{error}; {advice}") from error
    if changed:
        features: dict[str, object] = {"on": on, "reason": reason, "by": "operator"}
        log_own_event(spool, "the kill switch was turned", "kill-switch", "cdesk.kill_switch_changed", features)
    return changed


def _spool(home: Path | None) -> Spool:
    from .settings import load_settings

    return existing_spool(load_settings(home=home).home)
