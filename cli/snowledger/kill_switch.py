"""``snowledger kill-switch``: stop all queries at once, and allow them again. Loading goes on.

The JSON's keys are stable: on, reason (empty while it is off), since (null: never used), by (operator or budget; null:
never used).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .errors import CommandError
from .spools import existing_spool
from .terminal import printable
from .ticket_store import has_tickets, open_tickets, timestamp_now

if TYPE_CHECKING:
    from pathlib import Path

    from snowledger_queue import KillSwitch, Spool

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
    changed = has_tickets(spool) and _turn(spool, on=False, reason="")
    typer.echo(f"the kill switch is off{'' if changed else ', as it was'}")


@app.command("status")
def status(home: options.Home = None, as_json: options.Json = False) -> None:
    """Show whether queries are taken, and if not, since when and why.

    Try it: snowledger kill-switch status
    """
    switch = _read(_spool(home))
    if as_json:
        typer.echo(json.dumps(switch._asdict(), indent=2))
    elif switch.on:
        typer.echo(printable(f"on since {switch.since} by {switch.by}: {switch.reason}"))
    else:
        typer.echo("off" if switch.since is None else f"off since {switch.since}")


def _read(spool: Spool) -> KillSwitch:
    from snowledger_queue import KillSwitch

    if not has_tickets(spool):
        return KillSwitch()
    with open_tickets(spool) as tickets:
        return tickets.kill_switch()


def _turn(spool: Spool, *, on: bool, reason: str) -> bool:
    from snowledger_queue import StateError, lock_holder

    try:
        with open_tickets(spool, make=True) as tickets:
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
        _log(spool, on=on, reason=reason)
    return changed


def _log(spool: Spool, *, on: bool, reason: str) -> None:
    """Log the change. A queue that does not take it must not look as if the switch had not been turned."""
    import anyio

    from snowledger_queue import OPERATIONAL_CUSTOMER, Origin, QueueError, new_event, open_writer

    from . import __version__

    event = new_event(
        Origin(__version__, session_id="kill-switch", source_system="snowledger"),
        activity="cdesk.kill_switch_changed",
        customer=OPERATIONAL_CUSTOMER,
        feature_json={"on": on, "reason": reason, "by": "operator"},
    )

    async def append() -> None:
        async with open_writer(spool) as writer:
            await writer.append([event])

    try:
        anyio.run(append)
    except (QueueError, OSError) as error:
        typer.echo(printable(f"the kill switch was turned, but that could not be logged: {error}"), err=True)


def _spool(home: Path | None) -> Spool:
    from .settings import load_settings

    return existing_spool(load_settings(home=home).home)
