"""``snowledger serve``."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import logs, options
from .errors import StartError

if TYPE_CHECKING:
    from snowledger_server import ServerConfig

    from .settings import Settings

log = logging.getLogger(__name__)

LOG_NAME = "uploader.log"
"""In the spool folder: what an uploader says that nobody watches."""


def serve(
    home: options.Home = None,
    customer: options.Customer = None,
    http: Annotated[
        str | None,
        typer.Option(
            "--http",
            metavar="HOST:PORT",
            help="Serve HTTP there instead; port 0 takes a free one, and 'systemd' the socket that it hands over.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="Serve HTTPS with this certificate chain (PEM).")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="The certificate's key, if it has another file.")
    ] = None,
    no_uploader: Annotated[
        bool, typer.Option("--no-uploader", help="Start no uploader; somebody else runs 'snowledger upload'.")
    ] = False,
    log_format: options.LogFormat = None,
) -> None:
    """Serve MCP on standard input and output, or with --http to many clients.

    Desktop clients start this command. With the embedded warehouse it starts an uploader of its own if none
    is running.

    Try it: snowledger serve --http 127.0.0.1:8787
    """
    if http is None and (tls_cert or tls_key):
        raise typer.BadParameter("needs --http: on standard input and output there is no TLS", param_hint="--tls-cert")
    from . import __version__
    from .pressure import pressure_limits
    from .settings import ServerSettings, load_settings

    settings = load_settings(
        ServerSettings,
        home=home,
        customer=customer,
        auto_uploader=False if no_uploader else None,
        http_tls_cert=tls_cert,
        http_tls_key=tls_key,
        log_format=log_format,
    )
    logs.configure(settings.log_level, settings.log_format)

    from snowledger_server import ServerConfig, run

    config = ServerConfig(
        home=settings.home,
        customer=settings.customer,
        allowed_customers=settings.allowed_customers,
        version=__version__,
        uploader_command=uploader_command(settings),
        context_max_age_s=settings.context_max_age_s,
        templates_dir=settings.templates_dir,
        duckdb_database=settings.duckdb_database,
        limits=pressure_limits(settings),
    )
    if http is None:
        run(config)
    else:
        _serve_http(config, http, settings)


def _serve_http(config: ServerConfig, address: str, settings: Settings) -> None:
    from snowledger_server import HttpAddress, HttpConfig, ListenError, UnprotectedError, run_http

    notify_socket = os.environ.get("NOTIFY_SOCKET") or None
    if notify_socket is not None:
        faulthandler.enable()  # the watchdog's SIGABRT then leaves in the log where the server hung
    try:
        run_http(
            config,
            HttpConfig(
                address=HttpAddress.parse(address),
                tokens_file=settings.tokens_file,
                allowed_hosts=settings.http_allowed_hosts,
                allowed_origins=settings.http_allowed_origins,
                rate_per_s=settings.http_rate_per_s,
                max_connections=settings.http_max_connections,
                tls_cert=settings.http_tls_cert,
                tls_key=settings.http_tls_key,
                notify_socket=notify_socket,
            ),
        )
    except (ListenError, UnprotectedError) as error:
        raise StartError(str(error)) from error


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
        *("--log-format", settings.log_format),
        *("--home", str(settings.home)),
        *("--duckdb-path", str(settings.duckdb_path)),
        *("--log-file", str(settings.home / LOG_NAME)),
    )
