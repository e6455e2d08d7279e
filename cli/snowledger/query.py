"""``snowledger query``: ask a template, wait for the uploader to run it, and print the result."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import options
from .errors import CommandError
from .terminal import count, duration, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snowledger_ddl import Template
    from snowledger_queue import Spool, Ticket, Tickets

    from .query_result import Format
    from .query_wait import Uploader
    from .settings import Settings

DEFAULT_TIMEOUT_S = 300.0
"""A query may run for 30 s; the rest is for those before it, and for an uploader that has a backlog to load."""


def query(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A template; see 'snowledger templates list'.")],
    parameters: Annotated[
        list[str] | None,
        typer.Argument(metavar="K=V", help="Its parameters. A list is a,b,c or a JSON array."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Without waiting only the ticket's id is printed.")] = (
        True
    ),
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, metavar="SECONDS", help="Wait at most so long; the query goes on.")
    ] = DEFAULT_TIMEOUT_S,
    form: Annotated[
        Literal["table", "json", "csv", "parquet"] | None,
        typer.Option("--format", help="json: an object on each line. Default: as FILE is named, else table."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write the result there.")] = None,
    max_age: Annotated[
        float,
        typer.Option("--max-age", min=0, metavar="SECONDS", help="Take a result of the same query that is no older."),
    ] = 0.0,
    byte_cap: Annotated[
        str | None,
        typer.Option("--byte-cap", metavar="BYTES", help="Cut the result off there, such as 1MiB."),
    ] = None,
    home: options.Home = None,
    customer: options.Customer = None,
) -> None:
    """Ask the warehouse one of the questions that have a template.

    The query waits as a ticket for the uploader, which runs it. If none runs, one is started, and loads first
    what is queued. Ctrl-C cancels the query. A table shows the first 100 rows, the other formats all of them.

    Try it: snowledger query activity_counts since=7d
    """
    from .query_result import check_output, format_of
    from .query_wait import Uploader, load_first, status_line
    from .serve import uploader_command
    from .settings import load_settings
    from .spools import existing_spool
    from .ticket_store import open_tickets

    if not wait and (form is not None or output is not None):
        message = "--format and --output need the result, so they go with --wait"
        raise typer.BadParameter(message)
    chosen = form or format_of(output)
    if chosen == "parquet" and output is None:
        message = "--format parquet needs --output FILE"
        raise typer.BadParameter(message)
    if output is not None:
        check_output(output)
    cap = None if byte_cap is None else options.parse_bytes(byte_cap)
    settings = load_settings(home=home, customer=customer)
    template, checked = _asked(settings, name, parameters or ())
    spool = existing_spool(settings.home)
    with open_tickets(spool, make=True) as tickets, closing(Uploader(spool, uploader_command(settings))) as uploader:
        if wait:
            uploader.check()  # before anything is asked: without one there will be no answer
            if not tickets.kill_switch().on:
                with status_line() as show:
                    load_first(spool, uploader, timeout, show)
        ticket, reused = _submit(tickets, settings, template, checked, cap, max_age)
        if not wait:
            typer.echo(ticket.ticket_id)
            if ticket.finished_at is None:
                try:
                    uploader.look()
                except CommandError as error:
                    typer.echo(str(error), err=True)
            return
        ticket = _waited(spool, tickets, ticket, uploader, timeout, reused=reused)
    _print(spool, ticket, chosen, output, reused=reused)


def _asked(settings: Settings, name: str, parameters: Sequence[str]) -> tuple[Template, dict[str, object]]:
    """The template, and its parameters in normal form.

    Raises:
        CommandError: there is no such template.
        typer.BadParameter: with everything that is wrong with the parameters.
    """
    from snowledger_ddl import ParameterError, checked_parameters, load_templates, parse_parameter_text

    from .templates import find_template

    template = find_template(load_templates(settings.templates_dir, settings.duckdb_database), name)
    problems: list[tuple[str, str]] = []
    given: dict[str, object] = {}
    for text in parameters:
        key, equals, value = text.partition("=")
        if not equals:
            problems.append((ascii(text[:64]), "is not accepted; accepted: a name, =, and a value"))
        elif key in given:
            problems.append((ascii(key[:64]), "is given twice"))
        else:
            given[key] = parse_parameter_text(template, key, value)
    try:
        checked = checked_parameters(template, given)
    except ParameterError as error:
        problems += error.problems
    if problems:
        lines = [printable(f"{parameter}: {problem}") for parameter, problem in problems]
        lines.append(f"see snowledger templates show {template.name}")
        raise typer.BadParameter("\n  ".join([f"{template.name} cannot be asked like this", *lines]))
    return template, checked


def _submit(
    tickets: Tickets,
    settings: Settings,
    template: Template,
    checked: dict[str, object],
    byte_cap: int | None,
    max_age_s: float,
) -> tuple[Ticket, bool]:
    from snowledger_ddl import query_hash
    from snowledger_queue import KillSwitchError, new_query_tag

    from .ticket_store import timestamp_now

    try:
        return tickets.submit(
            customer=settings.customer,
            customers=template.customers(settings.customer, settings.allowed_customers),
            template=template.name,
            params=json.dumps(checked, ensure_ascii=False, sort_keys=True),
            query_hash=query_hash(template, checked),
            query_tag=new_query_tag(),
            byte_cap=byte_cap,
            max_age_s=max_age_s,
            now=timestamp_now(),
        )
    except KillSwitchError as error:
        raise CommandError(f"{error} (snowledger kill-switch off)") from error


def _waited(
    spool: Spool, tickets: Tickets, ticket: Ticket, uploader: Uploader, timeout_s: float, *, reused: bool
) -> Ticket:
    """The ticket when it has succeeded.

    Raises:
        CommandError: it has not, or not in time; or nobody can run it, and then it is cancelled.
    """
    from .query_wait import progress_text, status_line, wait_for

    try:
        with status_line() as show:
            ticket = wait_for(spool, tickets, ticket, uploader, timeout_s, show)
    except (KeyboardInterrupt, CommandError):
        sys.stderr.write(f"{_given_up(tickets, ticket, reused=reused)}\n")
        raise
    if ticket.finished_at is None:
        raise CommandError(
            f"no result within {duration(timeout_s)} ({progress_text(spool, ticket)}); it goes on, see "
            f"snowledger tickets show {ticket.ticket_id}, or tickets cancel"
        )
    if ticket.status != "succeeded":
        why = f": {ticket.error}" if ticket.error else ""
        raise CommandError(f"the query {_ENDED[ticket.status]}{why} (ticket {ticket.ticket_id})")
    return ticket


_ENDED = {"failed": "failed", "cancelled": "was cancelled"}


def _given_up(tickets: Tickets, ticket: Ticket, *, reused: bool) -> str:
    """Cancel the ticket, unless somebody else asked for it; say what became of it."""
    from snowledger_queue import StateError

    from .ticket_store import timestamp_now
    from .tickets import cancellation

    subject = f"ticket {ticket.ticket_id}"
    if reused:
        return f"{subject}: asked for before, so it goes on; end it with snowledger tickets cancel"
    try:
        ended = tickets.cancel(ticket.ticket_id, ticket.customer, timestamp_now(), ticket.customers)
    except StateError as error:
        return printable(f"{subject}: it could not be cancelled: {error}")
    return f"{subject}: {'gone' if ended is None else cancellation(ended)}"


def _print(spool: Spool, ticket: Ticket, form: Format, output: Path | None, *, reused: bool) -> None:
    """Print the result, and on stderr what must be known of it."""
    from .artifacts import artifact_path
    from .query_result import TABLE_ROWS, write_result

    write_result(artifact_path(spool, ticket.ticket_id), form, output)
    rows = ticket.row_count or 0
    if form == "table" and rows > TABLE_ROWS:
        typer.echo(f"... and {count(rows - TABLE_ROWS, 'more row')}; see them all with --format csv or json", err=True)
    if ticket.truncated:
        typer.echo(f"the result was cut off at its cap: {count(rows, 'row')}, and there are more", err=True)
    if reused:
        typer.echo(f"this is the result of ticket {ticket.ticket_id}, finished at {ticket.finished_at}", err=True)
    elif sys.stderr.isatty() and not ticket.truncated:
        typer.echo(f"{count(rows, 'row')} (ticket {ticket.ticket_id})", err=True)
