"""``snowledger artifacts``: the files that hold the results of queries."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .errors import CommandError
from .spools import existing_spool
from .terminal import count, printable, size
from .ticket_store import has_tickets, open_tickets, timestamp_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from snowledger_queue import Spool, Ticket

    from .settings import Settings

_SUFFIX = ".parquet"

_ALL = 2**31
"""More tickets than anybody has."""

app = typer.Typer(no_args_is_help=True, help="Look at the results of queries that are kept, and make room.")


def artifact_path(spool: Spool, ticket_id: str) -> Path:
    """Where the whole result of a ticket is."""
    return spool.artifacts / f"{ticket_id}{_SUFFIX}"


@app.command("list")
def list_artifacts(home: options.Home = None, as_json: options.Json = False) -> None:
    """List the results that are kept, the newest first, one on each line.

    With --json each line is an object {ticket_id, path, bytes, customer, template, query_tag, finished_at,
    row_count, truncated}; all but the first three are null for a file that belongs to no ticket.

    Try it: snowledger artifacts list
    """
    _, spool = _settings_and_spool(home)
    sizes = _sizes(spool)
    tickets = {ticket.ticket_id: ticket for ticket in _tickets(spool)}
    known = [ticket_id for ticket_id in tickets if ticket_id in sizes]
    for ticket_id in [*known, *sorted(sizes.keys() - tickets.keys())]:
        fields = _as_object(spool, ticket_id, sizes[ticket_id], tickets.get(ticket_id))
        if as_json:
            typer.echo(json.dumps(fields))
        else:
            of = (fields["finished_at"], fields["customer"], fields["template"])
            belongs = "  ".join(map(str, of)) if ticket_id in tickets else "of no ticket"
            typer.echo(printable(f"{ticket_id}  {size(sizes[ticket_id]):>10}  {belongs}"))
    if not as_json:
        typer.echo(f"{count(len(sizes), 'artifact')}, {size(sum(sizes.values()))}" if sizes else "no artifacts")


@app.command("prune")
def prune(
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than", min=0, max=36500, metavar="DAYS", help="Default: SNOWLEDGER_ARTIFACT_MAX_AGE_DAYS, else 90."
        ),
    ] = None,
    max_bytes: Annotated[
        str | None,
        typer.Option(
            "--max-bytes",
            metavar="BYTES",
            help="Keep at most so much, such as 500MiB. Default: SNOWLEDGER_ARTIFACT_MAX_BYTES, else 5GiB.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    home: options.Home = None,
) -> None:
    """Delete old results with their tickets, and the oldest results beyond a size.

    Also what belongs to no ticket any more. The uploader does the same by itself, with the settings.

    Try it: snowledger artifacts prune --older-than 30 --dry-run
    """
    settings, spool = _settings_and_spool(home)
    days = settings.artifact_max_age_days if older_than is None else older_than
    most = settings.artifact_max_bytes if max_bytes is None else options.parse_bytes(max_bytes)
    sizes = _sizes(spool)
    if dry_run and not has_tickets(spool):
        tickets, gone = 0, sorted(sizes)  # they are nobody's
    else:
        with open_tickets(spool, make=not dry_run) as store:
            tickets, gone = store.prune(timestamp_now(), sizes, most, days, dry_run=dry_run)
    failed = [] if dry_run else list(_failed(spool, gone))
    for ticket_id, reason in failed:
        typer.echo(printable(f"{artifact_path(spool, ticket_id)}: {reason}"), err=True)
    freed = sum(sizes[ticket_id] for ticket_id in gone) - sum(sizes[ticket_id] for ticket_id, _ in failed)
    done = f"{count(len(gone) - len(failed), 'artifact')} ({size(freed)}) and {count(tickets, 'ticket')}"
    typer.echo(f"{done} would be deleted" if dry_run else f"deleted {done}")
    if failed:
        raise CommandError(f"{count(len(failed), 'artifact')} could not be deleted")


def _failed(spool: Spool, ticket_ids: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Delete the files; of those that stay, which and why."""
    for ticket_id in ticket_ids:
        try:
            artifact_path(spool, ticket_id).unlink(missing_ok=True)
        except OSError as error:
            yield ticket_id, error.strerror or str(error)


def _sizes(spool: Spool) -> dict[str, int]:
    """The files of results, by ticket id."""
    sizes = {}
    for path in spool.artifacts.glob(f"*{_SUFFIX}"):
        with suppress(FileNotFoundError):  # deleted since the listing
            sizes[path.name.removesuffix(_SUFFIX)] = path.lstat().st_size
    return sizes


def _tickets(spool: Spool) -> Sequence[Ticket]:
    """All of them, the newest first."""
    if not has_tickets(spool):
        return ()
    with open_tickets(spool) as store:
        return store.list(None, _ALL)


def _as_object(spool: Spool, ticket_id: str, bytes_: int, ticket: Ticket | None) -> dict[str, Any]:
    names = ("customer", "template", "query_tag", "finished_at", "row_count", "truncated")
    return {
        "ticket_id": ticket_id,
        "path": str(artifact_path(spool, ticket_id)),
        "bytes": bytes_,
        **{name: getattr(ticket, name, None) for name in names},
    }


def _settings_and_spool(home: Path | None) -> tuple[Settings, Spool]:
    from .settings import load_settings

    settings = load_settings(home=home)
    return settings, existing_spool(settings.home)
