"""``snowledger install``: register the server with a client, and both processes with systemd."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import claude_desktop, install_systemd, options
from .errors import CommandError

if TYPE_CHECKING:
    from .settings import Settings

app = typer.Typer(no_args_is_help=True, help="Register the server with an MCP client, both processes with systemd.")
app.command("systemd")(install_systemd.install_systemd)


@app.callback()
def install() -> None:
    """Register the server with an MCP client, both processes with systemd."""


@app.command("claude-desktop")
def install_claude_desktop(
    home: options.Home = None,
    customer: options.Customer = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written; write nothing.")] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The configuration file. Default: where this platform has it."),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="The server's name in the client.")
    ] = "snowledger",
    force: Annotated[bool, typer.Option("--force", help="Replace a different entry of that name.")] = False,
) -> None:
    """Add the server to Claude Desktop's configuration, and change nothing else there.

    Keeps a copy of the file as it was. Settings that differ from the defaults go into the entry.

    Try it: snowledger install claude-desktop --dry-run
    """
    from .settings import load_settings

    settings = load_settings(home=home, customer=customer)
    path = claude_desktop.default_path() if config is None else config.absolute()
    wanted = claude_desktop.wanted_entry(settings)
    content = claude_desktop.read(path)
    servers = content.setdefault(claude_desktop.SERVERS, {})
    found = servers.get(name)
    if found == wanted:
        typer.echo(f"already installed: {path} has this entry as {json.dumps(name)}")
    elif name in servers and not force:
        how = "; ".join(claude_desktop.differences(found, wanted))
        raise CommandError(
            f"{path} has another entry named {json.dumps(name)}: {how}. "
            "Replace it with --force, or choose another --name"
        )
    else:
        servers[name] = wanted
        if dry_run:
            typer.echo(f"would write to {path}:")
            typer.echo(json.dumps({claude_desktop.SERVERS: {name: wanted}}, indent=2, ensure_ascii=False))
        else:
            backup = claude_desktop.write(path, content)
            typer.echo(f"installed as {json.dumps(name)} in {path}; restart Claude Desktop")
            if backup is not None:
                typer.echo(f"the file as it was: {backup}")
    typer.echo(f"for Claude Code: {_claude_code(settings, name)}")


def _claude_code(settings: Settings, name: str) -> str:
    variables = [f"--env={key}={value}" for key, value in claude_desktop.environment(settings).items()]
    return shlex.join(
        [
            "claude",
            "mcp",
            "add",
            *variables,
            "--scope",
            "user",
            name,
            "--",
            *claude_desktop.command(),
            "serve",
        ]
    )
