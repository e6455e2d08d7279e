"""``snowledger install systemd``: the uploader or the server as a service, of the machine or of one user."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import claude_desktop, options
from .errors import CommandError
from .systemd_unit import (
    CONNECTIONS,
    LISTEN,
    SERVER,
    SOCKET,
    SYSTEM_HOME,
    UPLOADER,
    USER,
    server_units,
    uploader_folders,
    uploader_units,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .settings import Settings

BOOTED = Path("/run/systemd/system")
"""Is there when systemd runs the machine (sd_booted(3))."""

SYSTEM_UNITS = Path("/etc/systemd/system")
"""Where systemd looks for the units of the machine's administrator."""

_HIDDEN = [Path(name) for name in ("/home", "/root", "/run/user", "/tmp", "/var/tmp")]  # noqa: S108 - only compared
"""What ``ProtectHome`` and ``PrivateTmp`` in the unit keep from the service."""


def install_systemd(
    service: Annotated[
        Literal["uploader", "server"],
        typer.Argument(help="The uploader, or the server for HTTP; it starts no uploader of its own."),
    ] = "uploader",
    home: options.Home = None,
    user: Annotated[
        bool, typer.Option("--user", help="A service of your own, without root, for the spool of your own servers.")
    ] = False,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            "--listen",
            metavar="IP:PORT",
            help=f"Where the server takes requests. May be repeated. Default: {LISTEN}.",
        ),
    ] = None,
    credential: Annotated[
        list[Path] | None,
        typer.Option(
            "--credential",
            metavar="FILE",
            help="With Snowflake, a file that only root and the uploader may see: connections.toml, a private key. "
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
    """Write the systemd units of the uploader or the server, and say which commands start it.

    A service runs as the user snowledger on /var/lib/snowledger and sees little else of the machine; with --user
    it runs as you, on your spool. Settings that differ from the defaults go into the unit.

    Try it: snowledger install systemd server --user --dry-run
    """
    from .settings import load_settings

    settings = load_settings(home=home)
    if not user and "home" not in settings.model_fields_set:
        settings = load_settings(home=SYSTEM_HOME)
    if listen and service == "uploader":
        raise CommandError("--listen is for the server: snowledger install systemd server --listen IP:PORT")
    if credential and (user or service == "server" or settings.warehouse != "snowflake"):
        raise CommandError(
            "--credential is for the uploader as a service of the machine, with SNOWLEDGER_WAREHOUSE=snowflake"
        )
    command = claude_desktop.command()
    if not user:
        _require_visible(settings, command[0])
    credentials = [path.absolute() for path in credential or [CONNECTIONS]]
    if service == "server":
        wanted = server_units(settings, command, listen or [LISTEN], user=user)
    else:
        wanted = uploader_units(settings, command, credentials, user=user)
    folder = _unit_folder(user=user, needed=not dry_run) if unit_dir is None else unit_dir.absolute()
    _install(folder, wanted, dry_run=dry_run, force=force)
    typer.echo("next:")
    lines: list[str] = []
    if not user:
        needed = credentials if service == "uploader" and settings.warehouse == "snowflake" else []
        lines += _preparations([settings.home] if service == "server" else uploader_folders(settings), needed)
    if service == "server":
        as_user = [] if user else ["sudo", "-u", USER]
        words = [*as_user, *command, "token", "add", "NAME", "--customer", "ID", "--home", str(settings.home)]
        lines.append(f"{shlex.join(words)}    # for each client")
    for line in (*lines, *_next(service, user=user)):
        typer.echo(f"  {line}")


def _install(folder: Path, wanted: Mapping[str, str], *, dry_run: bool, force: bool) -> None:
    """Write the units that are not there; none, when another one of the name is.

    Raises:
        CommandError: a file cannot be read or written, or is another unit.
    """
    found = {name: _read(folder / name) for name in wanted}
    for name, text in wanted.items():
        old = found[name]
        if old not in {None, text} and not force:
            raise CommandError(
                f"{folder / name} is another unit: {_difference(old or '', text)}. "
                "Keep lines of your own in a drop-in (systemctl edit), and replace the unit with --force"
            )
    for name, text in wanted.items():
        path = folder / name
        if found[name] == text:
            typer.echo(f"already installed: {path}")
        elif dry_run:
            typer.echo(f"would write to {path}:\n\n{text}")
        else:
            _write(path, text)
            typer.echo(f"installed: {path}")


def _require_visible(settings: Settings, program: str) -> None:
    """Refuse what the service of the machine could not see.

    Raises:
        CommandError: the program, the Python below it, or a path of the settings lies where it sees nothing.
    """
    own = (settings.home, settings.duckdb_path, settings.templates_dir, settings.tokens_file)
    for path in (program, sys.base_prefix, __file__, *own, settings.http_tls_cert, settings.http_tls_key):
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


def _preparations(folders: Sequence[Path], credentials: Sequence[Path]) -> Iterator[str]:
    """The commands that make what a service of the machine needs."""
    if not _user_exists():
        yield f"useradd --system --home-dir {SYSTEM_HOME} --shell /usr/sbin/nologin {USER}"
    for folder in folders:
        yield shlex.join(["install", "-d", "-o", USER, "-m", "700", str(folder)])
    for path in credentials:
        if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises where one may not look
            yield shlex.join(["install", "-D", "-m", "600", f"YOUR_{path.name.upper()}", str(path)])


def _next(service: str, *, user: bool) -> Iterator[str]:
    """The commands that start the service."""
    manager = " --user" if user else ""
    unit = SERVER if service == "server" else UPLOADER
    yield f"systemctl{manager} daemon-reload"
    yield f"systemctl{manager} enable --now {f'{SOCKET} {unit}' if service == 'server' else unit}"
    yield f"systemctl{manager} status {unit}"
    yield f"journalctl{manager} -u {unit} -f"
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
