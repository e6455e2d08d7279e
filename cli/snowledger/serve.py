"""``snowledger serve``."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from . import logs, options

if TYPE_CHECKING:
    from .settings import Settings

log = logging.getLogger(__name__)

LOG_NAME = "uploader.log"
"""In the spool folder: what an uploader says that nobody watches."""


def serve(
    home: options.Home = None,
    customer: options.Customer = None,
    no_uploader: Annotated[
        bool, typer.Option("--no-uploader", help="Start no uploader; somebody else runs 'snowledger upload'.")
    ] = False,
) -> None:
    """Serve MCP on standard input and output.

    Desktop clients start this command. With the embedded warehouse it starts an uploader of its own if none
    is running.

    Try it: snowledger install claude-desktop
    """
    from . import __version__
    from .settings import ServerSettings, load_settings

    settings = load_settings(ServerSettings, home=home, customer=customer, auto_uploader=False if no_uploader else None)
    logs.configure(settings.log_level)

    from snowledger_server import ServerConfig, run

    run(
        ServerConfig(
            home=settings.home,
            customer=settings.customer,
            allowed_customers=settings.allowed_customers,
            version=__version__,
            uploader_command=uploader_command(settings),
            context_max_age_s=settings.context_max_age_s,
            templates_dir=settings.templates_dir,
            duckdb_database=settings.duckdb_database,
        )
    )


def uploader_command(settings: Settings) -> tuple[str, ...] | None:
    """How ``serve`` starts an uploader of its own; None when it must not."""
    from .settings import keep_paths

    if not settings.auto_uploader:
        return None
    keep_paths()  # the others are below
    return (
        sys.executable,
        "-P",  # the client chose the current folder: a json.py in it must not become ours
        *("-m", "snowledger", "upload", "--exit-when-unused"),
        *("--home", str(settings.home)),
        *("--duckdb-path", str(settings.duckdb_path)),
        *("--log-file", str(settings.home / LOG_NAME)),
    )
