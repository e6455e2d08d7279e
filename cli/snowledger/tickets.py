"""``snowledger tickets``: the queries that were asked for, whoever asked.

The JSON's keys are stable and those of ``snowledger_queue.Ticket``, with ``params``, ``columns`` and ``sample`` as JSON
values, and ``artifact`` as the path of the result's file (null: there is none).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .artifacts import artifact_path
from .spools import existing_spool
from .terminal import count, printable, size
from .ticket_store import find_ticket, has_tickets, open_tickets, timestamp_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snowledger_queue import Spool, Ticket

    from .settings import Settings

TicketId = Annotated[str, typer.Argument(metavar="ID", help="The ticket's id or its first digits.")]

app = typer.Typer(no_args_is_help=True, help="Look at the queries that were asked for, and cancel them.")


@app.command("list")
def list_tickets(
    everybody: Annotated[bool, typer.Option("--all", help="Every customer's, not only your own.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="At most so many, the newest.")] = 20,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """List tickets, the newest first, one on each line.

    With --json each line is an object.

    Try it: snowledger tickets list --all
    """
    settings, spool = _settings_and_spool(home)
    tickets: Sequence[Ticket] = ()
    if has_tickets(spool):
        with open_tickets(spool) as store:
            tickets = store.list(None if everybody else settings.customer, limit)
    for ticket in tickets:
        if as_json:
            typer.echo(json.dumps(as_object(spool, ticket)))
        else:
            typer.echo(printable(_line(ticket, everybody=everybody)))
    if not tickets and not as_json:
        typer.echo("no tickets")


@app.command("show")
def show(ticket_id: TicketId, home: options.Home = None, as_json: options.Json = False) -> None:
    """Show one ticket: what was asked, how far it is, and the first rows of its result.

    Try it: snowledger tickets show 9f2c
    """
    _, spool = _settings_and_spool(home)
    with open_tickets(spool) as store:
        ticket = find_ticket(store, ticket_id)
    fields = as_object(spool, ticket)
    if as_json:
        typer.echo(json.dumps(fields, indent=2))
        return
    for name, value in fields.items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            typer.echo(printable(f"{name:<18}{text}"))


@app.command("cancel")
def cancel(ticket_id: TicketId, home: options.Home = None) -> None:
    """Cancel a query that waits or runs.

    One that has ended stays as it is.

    Try it: snowledger tickets cancel 9f2c
    """
    _, spool = _settings_and_spool(home)
    with open_tickets(spool) as store:
        ticket = find_ticket(store, ticket_id)
        ended = ticket.finished_at is not None
        ticket = store.cancel(ticket.ticket_id, ticket.customer, timestamp_now(), ticket.customers) or ticket
    if ended:
        typer.echo(f"{ticket.ticket_id}: it has ended already ({ticket.status})")
    else:
        typer.echo(f"{ticket.ticket_id}: {cancellation(ticket)}")


def cancellation(ticket: Ticket) -> str:
    """What became of a ticket that was asked to end."""
    return "the uploader is cancelling it" if ticket.status == "running" else ticket.status


def as_object(spool: Spool, ticket: Ticket) -> dict[str, Any]:
    """The ticket for the JSON."""
    fields: dict[str, Any] = ticket._asdict()
    for name in ("params", "columns", "sample"):
        if fields[name] is not None:
            fields[name] = json.loads(fields[name])
    fields["artifact"] = str(artifact_path(spool, ticket.ticket_id)) if ticket.artifact else None
    return fields


def _line(ticket: Ticket, *, everybody: bool) -> str:
    columns = [ticket.ticket_id, f"{ticket.status:<9}", ticket.submitted_at]
    if everybody:
        columns.append(ticket.customer)
    columns += [ticket.template, ticket.params, _outcome(ticket)]
    return "  ".join(column for column in columns if column)


def _outcome(ticket: Ticket) -> str:
    if ticket.status == "queued":
        return f"{ticket.position or 0:,} before it"
    if ticket.status == "running":
        return f"{count(ticket.rows_so_far, 'row')} so far"
    if ticket.row_count is not None:
        cut = ", truncated" if ticket.truncated else ""
        return f"{count(ticket.row_count, 'row')}, {size(ticket.bytes or 0)}{cut}"
    return ticket.error or ""


def _settings_and_spool(home: object) -> tuple[Settings, Spool]:
    from .settings import load_settings

    settings = load_settings(home=home)
    return settings, existing_spool(settings.home)
