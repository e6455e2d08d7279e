"""``snowledger upload``."""

from __future__ import annotations

import faulthandler
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import logs, options
from .errors import CommandError, StartError
from .terminal import count, duration, progress

if TYPE_CHECKING:
    from snowledger_queue import UploaderStatus

    from .settings import Settings

log = logging.getLogger(__name__)


def upload(
    once: Annotated[bool, typer.Option("--once", help="Load what is there, print a summary and end.")] = False,
    home: options.Home = None,
    duckdb_path: options.DuckdbPath = None,
    log_format: options.LogFormat = None,
    monitor: Annotated[
        str | None,
        typer.Option(
            "--monitor",
            metavar="HOST:PORT",
            help="Show /healthz, /readyz and /metrics there, for this machine alone; port 0 takes a free one.",
        ),
    ] = None,
    exit_when_unused: Annotated[bool, typer.Option("--exit-when-unused", hidden=True)] = False,
    log_file: Annotated[Path | None, typer.Option("--log-file", hidden=True)] = None,
) -> None:
    """Move queued events into the warehouse, exactly once.

    Runs until it is stopped, or with --once until the queue is empty. Only one uploader works on a spool; a
    second one is refused (exit code 4) and told which is the first.

    Try it: snowledger upload --once
    """
    from snowledger_queue import LockHeldError

    if log_file is not None:
        logs.configure("info", log_format or "console", log_file)
    try:
        from .settings import load_settings

        settings = load_settings(home=home, duckdb_path=duckdb_path, log_format=log_format, monitor=monitor)
        _upload(settings, once, exit_when_unused, log_file)
    except Exception as error:
        if log_file is not None:
            # Nobody sees the standard error of a process that serve started.
            # To lose the race for the lock is what happens to all uploaders but one.
            log.log(logging.INFO if isinstance(error, LockHeldError) else logging.ERROR, "%s", error)
        raise


def _upload(settings: Settings, once: bool, exit_when_unused: bool, log_file: Path | None) -> None:
    from . import __version__
    from .snowflake_config import snowflake_config

    # With --once the summary says it all, unless somebody asked for more.
    quiet = once and "log_level" not in settings.model_fields_set
    logs.configure("warning" if quiet else settings.log_level, settings.log_format, log_file)
    snowflake = snowflake_config(settings)

    from snowledger_uploader import QueryLimits, UploaderConfig, UploaderError, run

    notify_socket = os.environ.get("NOTIFY_SOCKET") or None
    if notify_socket is not None:
        faulthandler.enable()  # the watchdog's SIGABRT then leaves in the log where the uploader hung
    config = UploaderConfig(
        home=settings.home,
        duckdb_path=settings.duckdb_path,
        version=__version__,
        snowflake=snowflake,
        batch_age_s=settings.batch_age_s,
        once=once,
        exit_when_unused=exit_when_unused,
        refresh_interval_s=settings.context_refresh_s or None,
        templates_dir=settings.templates_dir,
        limits=QueryLimits(
            time_limit_s=settings.query_time_limit_s,
            concurrency=settings.query_concurrency,
            row_cap=settings.query_row_cap,
            byte_cap=settings.query_byte_cap,
            artifact_max_age_days=settings.artifact_max_age_days,
            artifact_max_bytes=settings.artifact_max_bytes,
            credits_per_hour=settings.credits_per_hour_limit,
        ),
        # Not by one that serve started: that the port is taken must not keep events from being loaded.
        monitor=None if exit_when_unused else settings.monitor_address,
        notify_socket=notify_socket,
    )
    started = time.monotonic()
    try:
        if not once:
            run(config)
            return
        with progress("uploading") as show:
            status = run(config, show)
    except UploaderError as error:
        if error.transient:
            raise
        raise StartError(str(error)) from error
    typer.echo(_summary(status, time.monotonic() - started))
    if status.problem is not None:
        raise CommandError(status.problem)


def _summary(status: UploaderStatus, seconds: float) -> str:
    return (
        f"loaded {count(status.events, 'event')} in {count(status.batches, 'batch')}: "
        f"{status.inserted:,} new, {count(status.events - status.inserted, 'duplicate')}, "
        f"{count(status.dead_letters, 'dead letter')} ({duration(seconds)})"
    )
