"""The command line: which commands there are. Their modules load what they need when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import (
    artifacts,
    ddl,
    dead_letters,
    doctor,
    import_events,
    install,
    kill_switch,
    query,
    serve,
    status,
    templates,
    tickets,
    tokens,
    upload,
)

app = typer.Typer(
    name="snowledger",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        typer.echo(f"snowledger {__version__}")
        raise typer.Exit


@app.callback()
def snowledger(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """A durable event ledger for MCP clients: serve logs events, upload moves them into a warehouse.

    Settings come from snowledger.toml, then SNOWLEDGER_* variables, then flags. See what runs with
    'snowledger status', what is wrong with 'snowledger doctor', and how it works with 'snowledger demo'.
    """


def _demo(
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="DIR", help="A folder for the demo, which stays. Default: a temporary one."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary folder.")] = False,
) -> None:
    """Watch a session travel from a client to the warehouse.

    It has a server, an uploader, a spool and a warehouse of its own, in a temporary folder unless --home names one.

    Try it: snowledger demo
    """
    from .demo import run_demo

    raise typer.Exit(run_demo(home, keep=keep))


app.command("serve")(serve.serve)
app.command("upload")(upload.upload)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("import")(import_events.import_events)
app.command("query")(query.query)
app.add_typer(templates.app, name="templates")
app.add_typer(tickets.app, name="tickets")
app.add_typer(artifacts.app, name="artifacts")
app.add_typer(tokens.app, name="token")
app.add_typer(kill_switch.app, name="kill-switch")
app.add_typer(dead_letters.app, name="dead-letter")
app.add_typer(ddl.app, name="ddl")
app.add_typer(install.app, name="install")
app.command("demo")(_demo)
