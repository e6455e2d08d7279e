"""``snowledger doctor``: what is wrong here, and what to do about it."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from . import options
from .errors import CommandError, ExitCode, SettingsError
from .spools import existing_spool, spool_exists
from .terminal import count, size

if TYPE_CHECKING:
    from .settings import Settings

LOW_DISK_BYTES = 1024**3
"""Room for some 2.8 million events of 378 bytes: time to act before anything stops."""

SLOW_FLUSH_MS = 10.0
"""A log_event is promised within 10 ms, and one flush is part of it."""

FLUSHES = 9
NEWEST_TRIED = (3, 14)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    state: Literal["ok", "warn", "fail"]
    found: str
    advice: str | None = None
    """What to do; None when there is nothing to do."""


def doctor(home: options.Home = None, as_json: options.Json = False) -> None:
    """Check what snowledger needs, and say what to do.

    Exit code 1 when a check fails; warnings do not count. With --json a list of
    {check, state, found, advice}.

    Try it: snowledger doctor
    """
    findings: list[Finding] = []
    for finding in _examine(home):
        findings.append(finding)
        if not as_json:
            typer.echo(f"{finding.state:<6}{finding.check:<16}{finding.found}")
            if finding.advice is not None:
                typer.echo(f"{'':<22}-> {finding.advice}")
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


def _examine(home: Path | None) -> Iterator[Finding]:
    from .settings import load_settings
    from .settings_file import find_file

    yield _python()
    try:
        settings = load_settings(home=home)
    except SettingsError as error:
        yield Finding("settings", "fail", str(error), "correct it; the other checks need the settings")
        return
    file = find_file()
    yield Finding("settings", "ok", "no settings file, defaults and environment" if file is None else f"{file}")
    for name, check in _CHECKS.items():
        try:
            yield check(settings)
        except Exception as error:  # noqa: BLE001 - a check that breaks is a finding, and the others go on
            yield Finding(name, "fail", str(error) or type(error).__name__)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] > NEWEST_TRIED:
        return Finding("python", "warn", f"{version} is newer than what snowledger was tried with")
    return Finding("python", "ok", f"{version}, {sys.executable}")


def _spool(settings: Settings) -> Finding:
    if not spool_exists(settings.home):
        folder = _existing(settings.home)
        if not os.access(folder, os.W_OK | os.X_OK):
            return Finding(
                "spool",
                "fail",
                f"{settings.home} cannot be made: {folder} is not writable",
                "set SNOWLEDGER_HOME",
            )
        if settings.home.is_dir():
            from snowledger_queue import make_private_folder

            make_private_folder(settings.home)
        return Finding("spool", "ok", f"{settings.home} is not there yet; the first serve makes it")
    existing_spool(settings.home)
    return Finding("spool", "ok", f"{settings.home}, private")


def _disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(_existing(settings.home)).free
    if free < settings.min_free_disk:
        kept = f"{size(free)} free, less than the {size(settings.min_free_disk)} that are kept (min_free_disk)"
        return Finding("disk", "fail", kept, "make room: events are refused")
    if free < LOW_DISK_BYTES:
        return Finding("disk", "warn", f"{size(free)} free", "make room: a full disk stops logging")
    return Finding("disk", "ok", f"{size(free)} free")


def _durable_write(settings: Settings) -> Finding:
    if not spool_exists(settings.home):
        return Finding("durable write", "ok", "not tried: there is no spool yet")
    spool = existing_spool(settings.home)
    probe = spool.work / f"doctor-{os.getpid()}-{time.time_ns():x}.probe"
    file = spool.filesystem.create(probe)
    if file is None:
        return Finding("durable write", "warn", f"{probe} was taken by another process", "run doctor again")
    times = []
    try:
        for _ in range(FLUSHES):
            file.write(b"x" * 400)
            started = time.perf_counter()
            file.sync()
            times.append((time.perf_counter() - started) * 1000)
    finally:
        file.close()
        spool.filesystem.remove(probe)
    flush = statistics.median(times)
    if flush > SLOW_FLUSH_MS:
        return Finding(
            "durable write",
            "warn",
            f"a flush takes {flush:.1f} ms",
            "put SNOWLEDGER_HOME on a faster, local disk",
        )
    return Finding("durable write", "ok", f"a flush takes {flush:.2f} ms")


def _uploader(settings: Settings) -> Finding:
    from .pressure import pressure_limits
    from .status import collect

    if not spool_exists(settings.home):
        return Finding("uploader", "ok", "none runs, and there is nothing to load")
    report = collect(existing_spool(settings.home), pressure_limits(settings))
    uploader, events = report["uploader"], report["queue"]["events"]
    if uploader["running"]:
        found = f"process {uploader['pid']}, {uploader['state']}"
        if uploader["problem"]:
            return Finding("uploader", "warn", f"{found}: {uploader['problem']}", "it goes on when that is mended")
        return Finding("uploader", "ok", found)
    if events:
        return Finding(
            "uploader",
            "warn",
            f"none runs, {count(events, 'event')} waiting",
            "run: snowledger upload --once",
        )
    return Finding("uploader", "ok", "none runs, and there is nothing to load")


def _warehouse(settings: Settings) -> Finding:
    from .snowflake_config import snowflake_config

    snowflake = snowflake_config(settings)
    if snowflake is None and not settings.duckdb_path.exists():
        folder = _existing(settings.duckdb_path.parent)
        if not os.access(folder, os.W_OK | os.X_OK):
            return Finding(
                "warehouse",
                "fail",
                f"{settings.duckdb_path} cannot be made: {folder} is not writable",
                "set SNOWLEDGER_DUCKDB_PATH",
            )
        return Finding("warehouse", "ok", f"{settings.duckdb_path} is not there yet; the first upload makes it")

    if not spool_exists(settings.home):
        place = settings.duckdb_path if snowflake is None else f"Snowflake connection {snowflake.connection}"
        return Finding("warehouse", "ok", f"{place}, not tried: there is no spool yet")

    from snowledger_uploader import UploaderConfig, UploaderError, check_warehouse

    from . import __version__

    try:
        found = check_warehouse(
            UploaderConfig(
                home=settings.home, duckdb_path=settings.duckdb_path, version=__version__, snowflake=snowflake
            )
        )
    except UploaderError as error:
        if error.transient:
            return Finding("warehouse", "warn", str(error), "nothing, if this passes")
        what = "mend or move the file" if snowflake is None else "see docs/snowflake.md"
        return Finding("warehouse", "fail", str(error), f"{what}; queued events are safe meanwhile")
    return Finding("warehouse", "ok", found)


def _letters(settings: Settings) -> Finding:
    if not spool_exists(settings.home):
        return Finding("dead letters", "ok", "none")
    from snowledger_queue import DeadLetterCounter

    found = DeadLetterCounter(existing_spool(settings.home)).counts()
    if found.unread:
        return Finding("dead letters", "warn", f"{found.unread[0]} is damaged", "look at it, and move it elsewhere")
    if found.total:
        return Finding("dead letters", "warn", count(found.total, "letter"), "see: snowledger dead-letter list")
    return Finding("dead letters", "ok", "none")


def _tokens(settings: Settings) -> Finding:
    from snowledger_server import TokenFileError, read_tokens

    if not os.path.lexists(settings.tokens_file):
        return Finding("tokens", "ok", "none: over HTTP a server answers this machine alone")
    try:
        tokens = read_tokens(settings.tokens_file)
    except TokenFileError as error:
        return Finding("tokens", "fail", str(error), "mend it; until then an HTTP server lets nobody in")
    expired = sum(token.expired(datetime.now(UTC)) for token in tokens)
    if expired:
        return Finding("tokens", "warn", f"{count(expired, 'token')} expired", "see: snowledger token list")
    return Finding("tokens", "ok", f"{count(len(tokens), 'token')} in {settings.tokens_file}")


def _claude_desktop(settings: Settings) -> Finding:
    from . import claude_desktop

    path = claude_desktop.default_path()
    try:
        servers = claude_desktop.read(path).get(claude_desktop.SERVERS, {})
    except CommandError as error:
        return Finding("claude desktop", "warn", str(error))
    wanted = claude_desktop.wanted_entry(settings)
    if wanted in servers.values():
        return Finding("claude desktop", "ok", f"installed in {path}")
    if "snowledger" in servers:
        how = "; ".join(claude_desktop.differences(servers["snowledger"], wanted))
        return Finding(
            "claude desktop",
            "warn",
            f"the entry in {path} is not for these settings: {how}",
            "run: snowledger install claude-desktop --force",
        )
    if path.parent.is_dir():
        return Finding("claude desktop", "warn", f"no entry in {path}", "run: snowledger install claude-desktop")
    return Finding("claude desktop", "ok", "not on this machine")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


_CHECKS: dict[str, Callable[[Settings], Finding]] = {
    "spool": _spool,
    "disk": _disk,
    "durable write": _durable_write,
    "uploader": _uploader,
    "warehouse": _warehouse,
    "dead letters": _letters,
    "tokens": _tokens,
    "claude desktop": _claude_desktop,
}
