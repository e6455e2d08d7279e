"""The settings file: ``$SNOWLEDGER_CONFIG``, else ``./snowledger.toml``, else ``snowledger.toml`` in the user's folder.

The first that exists is read, alone. ``serve`` passes the second over: the client chose the folder, and a repository
that somebody cloned must not decide who the customer is. Relative paths in the file start from its own folder.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs
from pydantic.fields import FieldInfo

from . import settings_errors
from .errors import SettingsError
from .settings_values import PREFIX

CONFIG_VARIABLE = f"{PREFIX}CONFIG"
FILE_NAME = "snowledger.toml"

_PATHS = (Path, Path | None)
"""What the fields are that hold one."""


def find_file(*, here: bool = True) -> Path | None:
    """The settings file that is read; None when there is none. One that is named must exist.

    ``here`` says whether the current folder is looked at.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named).expanduser()
    candidates = [platformdirs.user_config_path("snowledger", appauthor=False) / FILE_NAME]
    if here:
        candidates.insert(0, Path(FILE_NAME))
    return next((path.absolute() for path in candidates if os.path.lexists(path)), None)


def read_file(path: Path, fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """What the file says of these fields, not yet checked.

    Raises:
        SettingsError: it cannot be read, is not TOML, or names something else.
    """
    try:
        values = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} is not valid TOML: {error}") from None
    except RecursionError:
        raise SettingsError(f"the settings file {path} is not valid TOML: nested too deeply") from None
    except ValueError:  # all that int() refuses of what the grammar takes
        reason = "a whole number of thousands of digits"
        raise SettingsError(f"the settings file {path} is not valid TOML: {reason}") from None
    for name, value in values.items():
        if name not in fields:
            raise SettingsError(f"{path}: {settings_errors.unknown('setting', name, fields)}")
        if fields[name].annotation in _PATHS and isinstance(value, str) and value:
            with suppress(RuntimeError):  # nobody has that name: refused where every path is checked
                values[name] = path.parent / Path(value).expanduser()
    return values
