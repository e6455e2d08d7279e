"""``snowledger token``: who may call the HTTP server, and as whom.

A running server takes a change at its next request. The JSON's keys are stable: id, name, scope, customer (null with
the scope metrics), allowed, created, expires (null: never), expired; add has the token too.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import options
from .errors import CommandError
from .terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snowledger_server import Token

MAX_DAYS = 36_500
"""A hundred years; who wants more means never."""

app = typer.Typer(no_args_is_help=True, help="Make and revoke the tokens that the HTTP server asks for.")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it: who uses it, and where.")],
    customer: Annotated[
        str | None,
        typer.Option("--customer", metavar="ID", help="Whom its bearer acts for. Required, but not for metrics."),
    ] = None,
    allow: Annotated[
        str, typer.Option("--allow", metavar="ID,ID", help="Further customers that its bearer may read and write.")
    ] = "",
    expires: Annotated[
        str,
        typer.Option("--expires", metavar="WHEN", help="After so many days (90d), at a date (2027-06-30), or never."),
    ] = "90d",
    scope: Annotated[
        Literal["mcp", "metrics"],
        typer.Option("--scope", help="What it opens: the tools and resources, or /metrics."),
    ] = "mcp",
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Make a token, and print it: this once, for only a hash of it is kept.

    From the first one on, the server asks every caller for one, and goes on asking when none is left.

    Try it: snowledger token add alice-laptop --customer acme --expires 30d
    """
    from snowledger_server import add_token

    now = datetime.now(UTC)
    until = _moment(expires, now)
    allowed = [part.strip() for part in allow.split(",") if part.strip()]
    with _explained():
        token, text = add_token(_file(home, make=True), name, scope, customer, allowed, until, now)
    typer.echo(json.dumps({**_as_object(token, now), "token": text}, indent=2) if as_json else text)
    typer.echo(printable(f"{_line(token, now)}; it is shown only now"), err=True)


@app.command("list")
def list_tokens(home: options.Home = None, as_json: options.Json = False) -> None:
    """List tokens, the oldest first, one on each line. Nothing of their secrets is kept that could be shown.

    With --json each line is an object.

    Try it: snowledger token list
    """
    from snowledger_server import read_tokens

    now = datetime.now(UTC)
    with _explained():
        tokens = read_tokens(_file(home))
    for token in tokens:
        typer.echo(json.dumps(_as_object(token, now)) if as_json else printable(_line(token, now)))
    if not tokens and not as_json:
        typer.echo("no tokens")


@app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="The token's name or its id.")],
    home: options.Home = None,
) -> None:
    """Forget a token: from its next request on, its bearer is a stranger.

    Try it: snowledger token revoke alice-laptop
    """
    from snowledger_server import revoke_token

    with _explained():
        token = revoke_token(_file(home), name)
    typer.echo(f"{token.id}: {token.name} is revoked")


def _file(home: Path | None, *, make: bool = False) -> Path:
    """Where the tokens are; ``make`` makes the spool they lie in unless told otherwise."""
    from .settings import load_settings

    settings = load_settings(home=home)
    if make and settings.tokens_file.parent == settings.home:
        from snowledger_queue import open_spool

        open_spool(settings.home)
    return settings.tokens_file


def _moment(text: str, now: datetime) -> datetime | None:
    """When a token expires; None: never."""
    if text == "never":
        return None
    if re.fullmatch(r"[0-9]{1,5}d", text, re.ASCII) and 0 < int(text[:-1]) <= MAX_DAYS:
        return now + timedelta(days=int(text[:-1]))
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        moment = now
    if moment <= now:
        message = (
            f"{text!a} is not accepted; accepted: days such as 90d, a date to come such as 2027-06-30 (UTC), never"
        )
        raise typer.BadParameter(message, param_hint="--expires")
    return moment


def _as_object(token: Token, now: datetime) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "scope": token.scope,
        "customer": token.customer,
        "allowed": list(token.allowed),
        "created": token.created,
        "expires": token.expires,
        "expired": token.expired(now),
    }


def _line(token: Token, now: datetime) -> str:
    whom = "/metrics" if token.customer is None else ", ".join((token.customer, *token.allowed))
    if token.expires is None:
        until = "never expires"
    else:
        until = f"{'expired' if token.expired(now) else 'expires'} {token.expires[:19]}Z"
    return f"{token.id}  {token.name}  {whom}  {until}"


@contextmanager
def _explained() -> Iterator[None]:
    """Tell the user what a token or the file cannot be."""
    from snowledger_server import ServerError

    try:
        yield
    except ServerError as error:
        raise CommandError(str(error)) from error
