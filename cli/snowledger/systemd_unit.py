"""The systemd unit that runs the uploader: its text, for the machine or for one user."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from .errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .settings import Settings

UNIT = "snowledger-uploader.service"
USER = "snowledger"
"""Whom the service of the machine runs as, see ``systemd/system.service``."""

SYSTEM_HOME = Path("/var/lib/snowledger")
"""The spool that ``StateDirectory`` in the unit makes."""

CONNECTIONS = Path("/etc/snowledger/connections.toml")

_OF_SERVERS = {
    "customer",
    "allowed_customers",
    "auto_uploader",
    "context_max_age_s",
    "backpressure_threshold_ms",
    "max_queue_bytes",
}
"""Settings that the uploader does not read."""


def unit_text(settings: Settings, command: Sequence[str], credentials: Sequence[Path], *, user: bool) -> str:
    """The unit that runs ``command upload`` with these settings.

    ``credentials`` are files for the service of the machine that loads into Snowflake.

    Raises:
        CommandError: a unit cannot hold a value, or no credential is a ``connections.toml``.
    """
    lines = [f"Environment={_word(f'{name}={value}')}" for name, value in _environment(settings)]
    if not user:
        lines += [f"ReadWritePaths={_word(folder)}" for folder in own_folders(settings)]
        lines += ["PrivateNetwork=yes"] if settings.warehouse == "duckdb" else _snowflake(credentials)
    folder = files("snowledger") / "systemd"
    names = ("uploader.service", "user.service" if user else "system.service")
    template = Template("".join((folder / name).read_text(encoding="utf-8") for name in names))
    return template.substitute(command=" ".join(map(_word, command)), settings="".join(f"\n{line}" for line in lines))


def own_folders(settings: Settings) -> list[Path]:
    """The folders that the uploader writes to and that ``StateDirectory`` does not make."""
    folders = [settings.home, settings.duckdb_path.parent] if settings.warehouse == "duckdb" else [settings.home]
    return [folder for folder in dict.fromkeys(folders) if not folder.is_relative_to(SYSTEM_HOME)]


def _environment(settings: Settings) -> Iterator[tuple[str, object]]:
    """The variables for what differs from the defaults: the service does not see those of this shell."""
    from .settings import DUCKDB_NAME, Settings, variables

    # Always: what the default is depends on the user, and on variables of this shell.
    yield variables("home")[0], settings.home
    defaults: dict[str, object] = {name: field.default for name, field in Settings.model_fields.items()}
    defaults |= {"home": settings.home, "duckdb_path": settings.home / DUCKDB_NAME}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if name in settings.model_fields_set - _OF_SERVERS and value not in {None, defaults[name]}:
            yield variables(name)[0], value


def _snowflake(credentials: Sequence[Path]) -> list[str]:
    if CONNECTIONS.name not in {path.name for path in credentials}:
        raise CommandError(f"no --credential is named {CONNECTIONS.name}; the connection is looked up there")
    return ["Environment=SNOWFLAKE_HOME=%d", *map(_load_credential, credentials)]


def _load_credential(path: Path) -> str:
    """Not a list of words: all that follows the first colon is the path, quotes included."""
    if ":" in path.name:
        raise CommandError(f"--credential: {str(path)!a} is not accepted; accepted: a file without : in its name")
    return f"LoadCredential={_escaped(path.name)}:{_escaped(path)}"


def _word(value: object) -> str:
    text = _escaped(value)
    return text if re.fullmatch(r"[\w/.,:=+@%-]+", text, re.ASCII) else f'"{text}"'


def _escaped(value: object) -> str:
    """The value without specifiers (systemd.unit(5)).

    Refused is what some directives take in one form, some in another and some in none (systemd.syntax(7)).
    """
    text = str(value)
    if not text.isprintable() or set(text) & set("\"'\\$"):
        raise CommandError(
            f"{text!a} is not accepted in a systemd unit; accepted: printable characters except \" ' \\ $"
        )
    return text.replace("%", "%%")
