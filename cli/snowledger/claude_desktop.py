"""Claude Desktop's configuration file: where it is, what it says of us, and changing nothing else in it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CommandError

if TYPE_CHECKING:
    from .settings import Settings

SERVERS = "mcpServers"
FILE_NAME = "claude_desktop_config.json"


def default_path() -> Path:
    """Where Claude Desktop looks on this platform."""
    if sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    elif sys.platform == "win32":
        folder = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    else:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return folder / "Claude" / FILE_NAME


def command() -> list[str]:
    """How to run snowledger from anywhere: desktop clients search no path (``spawn ENOENT``)."""
    suffix = ".exe" if sys.platform == "win32" else ""
    script = Path(sys.executable).with_name(f"snowledger{suffix}")
    # -P: the client chooses the current folder, and a json.py in it must not become ours.
    return [str(script)] if script.is_file() else [sys.executable, "-P", "-m", "snowledger"]


_SNOWFLAKE = ("snowflake_database", "snowflake_schema", "snowflake_warehouse", "snowflake_loader_role")


def environment(settings: Settings) -> dict[str, str]:
    """What the client must hand over: the shell's variables do not reach the servers that it starts."""
    from .settings import DUCKDB_NAME, default_customer, default_home

    uploads = settings.warehouse == "duckdb"
    values = (
        ("HOME", str(settings.home), str(default_home())),
        ("CUSTOMER", settings.customer, default_customer()),
        ("ALLOWED_CUSTOMERS", ",".join(sorted(settings.allowed_customers)), ""),
        ("WAREHOUSE", settings.warehouse, "duckdb"),
        ("DUCKDB_PATH", str(settings.duckdb_path), str(settings.home / DUCKDB_NAME)),
        ("AUTO_UPLOADER", str(int(settings.auto_uploader)), str(int(uploads))),
        ("TEMPLATES_DIR", str(settings.templates_dir or ""), ""),
        # For an uploader that the server starts when asked for.
        ("SNOW_CONNECTION", settings.snow_connection or "", ""),
        *((name.upper(), getattr(settings, name), _default(name)) for name in _SNOWFLAKE),
    )
    return {f"SNOWLEDGER_{name}": value for name, value, default in values if value != default}


def _default(name: str) -> object:
    from .settings import Settings

    return Settings.model_fields[name].default


def wanted_entry(settings: Settings) -> dict[str, Any]:
    """Our entry in ``mcpServers``."""
    program, *arguments = command()
    entry: dict[str, Any] = {"command": program, "args": [*arguments, "serve"]}
    variables = environment(settings)
    return {**entry, "env": variables} if variables else entry


def read(path: Path) -> dict[str, Any]:
    """The configuration; ``{}`` when there is no file.

    Raises:
        CommandError: it is not the JSON that Claude Desktop reads; it was not touched.
    """
    from snowledger_queue import InvalidEventError, parse_strict

    try:
        config = parse_strict(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except FileNotFoundError:
        return {}
    except InvalidEventError as error:
        raise CommandError(f"{path}: {error.problem}; it was not touched, mend it first") from None
    if not isinstance(config, dict) or not isinstance(config.get(SERVERS, {}), dict):
        raise CommandError(f"{path} is not a configuration with an object {SERVERS}; it was not touched")
    return config


def differences(found: object, wanted: dict[str, Any]) -> list[str]:
    """How an existing entry differs, without the values of its variables: they may be secrets."""
    if not isinstance(found, dict):
        return [f"it is {json.dumps(found)}"]
    lines = []
    for key in dict.fromkeys([*found, *wanted]):
        old, new = found.get(key), wanted.get(key)
        if key == "env" and isinstance(old or {}, dict):
            before, after = old or {}, new or {}
            changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
            lines += [f"env.{name} differs" for name in changed]
        elif old != new:
            lines.append(f"{key} is {json.dumps(old)}, it would be {json.dumps(new)}")
    return lines


def write(path: Path, config: dict[str, Any]) -> Path | None:
    """Replace the file in one step; return the copy that was made of the old one, if there was one."""
    from snowledger_queue import write_small_file

    # A link (people keep such files in a repository) stays a link.
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    # A lone surrogate, which only an escape can hold, becomes that escape again.
    content = f"{json.dumps(config, indent=2, ensure_ascii=False)}\n".encode(errors="backslashreplace")
    if not path.exists():
        write_small_file(path, content)
        return None
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    backup = path.with_name(f"{path.name}.{stamp}.bak")
    shutil.copy2(path, backup)
    write_small_file(path, content)
    shutil.copymode(backup, path)
    return backup
