"""``snowledger install systemd``: the uploader as a service, of the machine or of one user."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import claude_desktop, options
from .errors import CommandError
from .systemd_unit import CONNECTIONS, SYSTEM_HOME, UNIT, USER, own_folders, unit_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .settings import Settings

BOOTED = Path("/run/systemd/system")
"""Is there when systemd runs the machine (sd_booted(3))."""

SYSTEM_UNITS = Path("/etc/systemd/system")
"""Where systemd looks for the units of the machine's administrator."""

_HIDDEN = [Path(name) for name in ("/home", "/root", "/run/user", "/tmp", "/var/tmp")]  # noqa: S108 - only compared
"""What ``ProtectHome`` and ``PrivateTmp`` in the unit keep from the service."""


def install_systemd(
    home: options.Home = None,
    user: Annotated[
        bool, typer.Option("--user", help="A service of your own, without root, for the spool of your own servers.")
    ] = False,
    credential: Annotated[
        list[Path] | None,
        typer.Option(
            "--credential",
            metavar="FILE",
            help="With Snowflake, a file that only root and the service may see: connections.toml, a private key. "
            f"May be repeated. Default: {CONNECTIONS}.",
        ),
    ] = None,
    unit_dir: Annotated[
        Path | None,
        typer.Option("--unit-dir", metavar="DIR", help="Write to this folder. Default: where systemd looks."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written; write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a different unit.")] = False,
) -> None:
    """Write a systemd unit that runs the uploader, and say which commands start it.

    The service runs as the user snowledger on /var/lib/snowledger and sees little else of the machine; with --user
    it runs as you, on your spool. Settings that differ from the defaults go into the unit.

    Try it: snowledger install systemd --user --dry-run
    """
    from .settings import load_settings

    settings = load_settings(home=home)
    if not user and "home" not in settings.model_fields_set:
        settings = load_settings(home=SYSTEM_HOME)
    if credential and (user or settings.warehouse != "snowflake"):
        raise CommandError("--credential is for the service of the machine, with SNOWLEDGER_WAREHOUSE=snowflake")
    credentials = [path.absolute() for path in credential or [CONNECTIONS]]
    command = claude_desktop.command()
    if not user:
        _require_visible(settings, command[0])
    wanted = unit_text(settings, command, credentials, user=user)
    path = (_unit_folder(user=user, needed=not dry_run) if unit_dir is None else unit_dir.absolute()) / UNIT
    found = _read(path)
    if found == wanted:
        typer.echo(f"already installed: {path}")
    elif found is not None and not force:
        raise CommandError(
            f"{path} is another unit: {_difference(found, wanted)}. "
            "Keep lines of your own in a drop-in (systemctl edit), and replace the unit with --force"
        )
    elif dry_run:
        typer.echo(f"would write to {path}:\n\n{wanted}")
    else:
        _write(path, wanted)
        typer.echo(f"installed: {path}")
    typer.echo("next:")
    for line in _next(settings, credentials, user=user):
        typer.echo(f"  {line}")


def _require_visible(settings: Settings, program: str) -> None:
    """Refuse what the service of the machine could not see.

    Raises:
        CommandError: the program, the Python below it, or a folder of the settings lies where it sees nothing.
    """
    for path in (program, sys.base_prefix, __file__, settings.home, settings.duckdb_path, settings.templates_dir):
        hidden = None if path is None else next((one for one in _HIDDEN if Path(path).is_relative_to(one)), None)
        if hidden is not None:
            raise CommandError(
                f"a service of the machine does not see {hidden}, where {path} is. Have snowledger, its Python and "
                "its data elsewhere (such as /opt/snowledger and /var/lib/snowledger), or use --user"
            )


def _unit_folder(*, user: bool, needed: bool) -> Path:
    """Where systemd looks for units of the machine's administrator, or of the user."""
    if needed and not BOOTED.is_dir():
        raise CommandError(
            f"systemd does not run this machine (there is no {BOOTED}). See the unit with --dry-run, or write it for "
            "another machine with --unit-dir"
        )
    if not user:
        return SYSTEM_UNITS
    import platformdirs

    folder = platformdirs.user_config_path("systemd", appauthor=False) / "user"
    if needed:
        with suppress(OSError):  # writing to it fails as well, and says why
            folder.mkdir(parents=True, exist_ok=True)
    return folder


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None


def _write(path: Path, text: str) -> None:
    from snowledger_queue import write_small_file

    try:
        write_small_file(path, text.encode())
        path.chmod(0o644)  # systemd warns of units that others cannot read
    except OSError as error:
        hint = "; run it as root, or use --user" if isinstance(error, PermissionError) else ""
        raise CommandError(f"cannot write {path}: {error.strerror}{hint}") from None


def _difference(found: str, wanted: str) -> str:
    """Which directives differ, without their values: a variable's may be a secret."""
    lines = set(found.splitlines()) ^ set(wanted.splitlines())
    names = sorted({line.partition("=")[0] for line in lines if "=" in line and not line.startswith(("#", ";"))})
    return f"{', '.join(names)} differ" if names else "its comments or its order differ"


def _next(settings: Settings, credentials: Sequence[Path], *, user: bool) -> Iterator[str]:
    """The commands that start the service."""
    manager = " --user" if user else ""
    if not user:
        if not _user_exists():
            yield f"useradd --system --home-dir {SYSTEM_HOME} --shell /usr/sbin/nologin {USER}"
        for folder in own_folders(settings):
            yield shlex.join(["install", "-d", "-o", USER, "-m", "700", str(folder)])
        for path in credentials if settings.warehouse == "snowflake" else ():
            if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises where one may not look
                yield shlex.join(["install", "-D", "-m", "600", f"YOUR_{path.name.upper()}", str(path)])
    yield f"systemctl{manager} daemon-reload"
    yield f"systemctl{manager} enable --now {UNIT}"
    yield f"systemctl{manager} status {UNIT}"
    yield f"journalctl{manager} -u {UNIT} -f"
    if user:
        yield "loginctl enable-linger    # to let it run while you are not logged in"


def _user_exists() -> bool:
    if sys.platform == "win32":
        return False
    import pwd

    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True
