"""The systemd units that run the uploader and the server: their text, for the machine or for one user."""

from __future__ import annotations

import ipaddress
import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from .errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .settings import Settings

UPLOADER = "snowledger-uploader.service"
SERVER = "snowledger-server.service"
SOCKET = "snowledger-server.socket"

USER = "snowledger"
"""Whom a service of the machine runs as, see ``systemd/system.service``."""

SYSTEM_HOME = Path("/var/lib/snowledger")
"""The spool that ``StateDirectory`` in the unit makes."""

LISTEN = "127.0.0.1:8787"

OTHER_FILES = 256
"""What the server may open besides its connections; it keeps 192 of them free (``_http/_descriptors.py``)."""

CONNECTIONS = Path("/etc/snowledger/connections.toml")

_SERVERS = (
    *("customer", "allowed_customers", "auto_uploader", "tokens_file", "context_max_age_s", "http_"),
    *("backpressure_", "max_queue_bytes", "min_free_disk"),
)
"""How settings begin that the uploader does not read."""

_UPLOADERS = (
    *("auto_uploader", "context_refresh_s", "query_", "artifact_", "credits_", "snow", "batch_age_s", "monitor"),
)
"""How settings begin that the server need not be told."""


def uploader_units(
    settings: Settings, command: Sequence[str], credentials: Sequence[Path], *, user: bool
) -> dict[str, str]:
    """The unit that runs ``command upload`` with these settings, by its name.

    ``credentials`` are files for the service of the machine that loads into Snowflake.

    Raises:
        CommandError: a unit cannot hold a value, or no credential is a ``connections.toml``.
    """
    lines = list(_environment(settings, _SERVERS))
    if not user:
        lines += [f"ReadWritePaths={_word(folder)}" for folder in uploader_folders(settings)]
        if settings.warehouse == "snowflake":
            lines += _snowflake(credentials)
        elif settings.monitor is None:
            lines += ["PrivateNetwork=yes"]
        else:  # which others on this machine connect to
            lines += ["IPAddressDeny=any", "IPAddressAllow=localhost"]
    return {UPLOADER: _service("uploader.service", command, lines, user=user)}


def server_units(settings: Settings, command: Sequence[str], listen: Sequence[str], *, user: bool) -> dict[str, str]:
    """The units that run ``command serve`` with these settings and hand over its sockets, by their names.

    Raises:
        CommandError: a unit cannot hold a value, or ``listen`` has what is no IP address with a port.
    """
    lines = list(_environment(settings, _UPLOADERS))
    lines.append(f"LimitNOFILE={settings.http_max_connections + OTHER_FILES}")
    if not user:
        lines += [] if settings.home.is_relative_to(SYSTEM_HOME) else [f"ReadWritePaths={_word(settings.home)}"]
        lines.append("PrivateNetwork=yes")
    sockets = "\n".join(f"ListenStream={_address(text)}" for text in listen)
    return {
        SERVER: _service("server.service", command, lines, user=user),
        SOCKET: Template(_part("server.socket")).substitute(listen=sockets),
    }


def uploader_folders(settings: Settings) -> list[Path]:
    """The folders that the uploader writes to and that ``StateDirectory`` does not make."""
    folders = [settings.home, settings.duckdb_path.parent] if settings.warehouse == "duckdb" else [settings.home]
    return [folder for folder in dict.fromkeys(folders) if not folder.is_relative_to(SYSTEM_HOME)]


def _service(part: str, command: Sequence[str], lines: Sequence[str], *, user: bool) -> str:
    parts = (part, "common.service", "user.service" if user else "system.service")
    template = Template("".join(map(_part, parts)))
    return template.substitute(command=" ".join(map(_word, command)), settings="".join(f"\n{line}" for line in lines))


def _part(name: str) -> str:
    return (files("snowledger") / "systemd" / name).read_text(encoding="utf-8")


def _address(text: str) -> str:
    """What systemd takes for an address with a port: no name, and no port alone, which would be every address."""
    host, _, port = text.rpartition(":")
    try:
        if host.startswith("[") and host.endswith("]"):
            host = f"[{ipaddress.IPv6Address(host[1:-1])}]"
        else:
            ipaddress.IPv4Address(host)
        if port.isdecimal() and port.isascii() and 0 < int(port[:6]) < 1 << 16:
            return f"{host}:{int(port)}"
    except ValueError:
        pass
    raise CommandError(f"--listen: {text!a} is not accepted; accepted: IP:PORT such as {LISTEN} or [::1]:8787")


def _environment(settings: Settings, unread: tuple[str, ...]) -> Iterator[str]:
    """Lines for what differs from the defaults: a service sees no variable of this shell.

    Not for settings whose names begin as one of ``unread``.
    """
    from .settings import DUCKDB_NAME, TOKENS_NAME, Settings, variables

    defaults: dict[str, object] = {name: field.default for name, field in Settings.model_fields.items()}
    defaults |= {"duckdb_path": settings.home / DUCKDB_NAME, "tokens_file": settings.home / TOKENS_NAME}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        given = (
            name in settings.model_fields_set and not name.startswith(unread) and value not in {None, defaults[name]}
        )
        # The home always: what its default is depends on the user, and on variables of this shell.
        if given or name == "home":
            text = ",".join(sorted(value)) if isinstance(value, frozenset) else value
            yield f"Environment={_word(f'{variables(name)[0]}={text}')}"


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
