"""Settings: defaults, then ``snowledger.toml``, then the environment, then flags.

The file is ``$SNOWLEDGER_CONFIG``, else ``./snowledger.toml``, else ``snowledger.toml`` in the user's configuration
folder: the first that exists, alone. ``serve`` passes the second over: the client chose the folder, and a repository
that somebody cloned must not decide who the customer is. Relative paths in the file start from its own folder. A
variable that is set to nothing counts as not set.
"""

from __future__ import annotations

import difflib
import getpass
import os
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AfterValidator, AliasChoices, BeforeValidator, ByteSize, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from snowledger_queue import OPERATIONAL_CUSTOMER, InvalidEventError, check_customer

from .errors import SettingsError

PREFIX = "SNOWLEDGER_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
DEBUG_VARIABLE = f"{PREFIX}DEBUG"
FILE_NAME = "snowledger.toml"
DUCKDB_NAME = "warehouse.duckdb"

_MAX_SHOWN_CHARACTERS = 100
"""Enough of a wrong value to recognise it."""


def default_home() -> Path:
    """The spool folder unless told otherwise."""
    return platformdirs.user_data_path("snowledger", appauthor=False)


def default_customer() -> str:
    """The stdio identity unless told otherwise: who runs the process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""  # a container's user may have no name
    return user if user not in {"", OPERATIONAL_CUSTOMER} else "local"


def _setting(variable: str, *synonyms: str, accepted: str, **options: Any) -> Any:
    """A field read from ``SNOWLEDGER_<variable>``, or else from a synonym; ``accepted`` is for its errors."""
    names = AliasChoices(PREFIX + variable, *synonyms)
    return Field(validation_alias=names, description=accepted, **options)


def _absolute(path: Path) -> Path:
    text = str(path)
    if "\0" in text or path == Path() or "?" in text:
        message = "not a path"  # what follows a ? DuckDB takes for options
        raise ValueError(message)
    try:
        return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - resolve() would follow links
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def _database(path: Path) -> Path:
    if path.stem == "activities":
        message = "DuckDB names a database after its file, so readers could not tell it from the schema"
        raise ValueError(message)
    return path


def _customer(customer: str) -> str:
    try:
        check_customer(customer)
    except InvalidEventError as error:
        raise ValueError(error.problem) from None
    if customer == OPERATIONAL_CUSTOMER:
        message = "snowledger's own events have this customer"
        raise ValueError(message)
    return customer


def _split(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        message = "not a number"
        raise ValueError(message)  # noqa: TRY004 - pydantic collects ValueError
    return value


_Path = Annotated[Path, AfterValidator(_absolute)]
_CustomerId = Annotated[str, AfterValidator(_customer)]


class Settings(BaseSettings):
    """What the commands need to know. Made by ``load_settings``."""

    model_config = SettingsConfigDict(
        case_sensitive=True,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        validate_default=True,
    )

    home: _Path = _setting(
        "HOME", "QUEUE_DIR", accepted="the path of a folder, without ?", default_factory=default_home
    )
    customer: _CustomerId = _setting(
        "CUSTOMER",
        accepted="1 to 255 printable characters without / and \\, not snowledger",
        default_factory=default_customer,
    )
    allowed_customers: Annotated[frozenset[_CustomerId], NoDecode, BeforeValidator(_split)] = _setting(
        "ALLOWED_CUSTOMERS", accepted="customer ids separated by commas", default=frozenset()
    )
    """Further customers that the stdio identity may read and write."""
    warehouse: Annotated[Literal["duckdb", "snowflake"], BeforeValidator(_lower)] = _setting(
        "WAREHOUSE", accepted="duckdb or snowflake", default="duckdb"
    )
    duckdb_path: Annotated[_Path, AfterValidator(_database)] = _setting(
        "DUCKDB_PATH",
        accepted="the path of a file that is not named activities, as the schema is, and without ?",
        default_factory=lambda earlier: earlier["home"] / DUCKDB_NAME,
    )
    auto_uploader: bool = _setting(
        "AUTO_UPLOADER",
        accepted="true or false",
        default_factory=lambda earlier: earlier["warehouse"] == "duckdb",
    )
    """Whether ``serve`` starts an uploader when nobody drains the spool."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = _setting(
        "LOG_LEVEL", accepted="debug, info, warning or error", default="info"
    )
    snow_connection: str | None = _setting(
        "SNOW_CONNECTION",
        "SNOW_CONNECTION",
        accepted="a name in connections.toml",
        default=None,
        min_length=1,
    )
    backpressure_threshold_ms: Annotated[int, BeforeValidator(_no_boolean)] = _setting(
        "BACKPRESSURE_THRESHOLD_MS",
        "BACKPRESSURE_THRESHOLD",
        accepted="milliseconds, a whole number above 0",
        default=120_000,
        gt=0,
    )
    max_queue_bytes: Annotated[ByteSize, BeforeValidator(_no_boolean)] = _setting(
        "MAX_QUEUE_BYTES",
        "MAX_QUEUE_SIZE",
        accepted="bytes above 0, such as 52428800 or 50MiB",
        default=50 * 1024 * 1024,
        gt=0,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the interface
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the interface
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, file: the first that has a value wins."""
        return (
            init_settings,
            env_settings,
            InitSettingsSource(settings_cls, _read_file(find_file(here=not issubclass(settings_cls, ServerSettings)))),
        )


class ServerSettings(Settings):
    """The same without the current folder's file."""


def load_settings(model: type[Settings] = Settings, /, **flags: object) -> Settings:
    """Read all sources; a flag that is None was not given. Warns on stderr of variables that nothing reads.

    Raises:
        SettingsError: the first wrong value, with where it comes from and what is accepted.
    """
    given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    _warn_of_unknown_variables()
    try:
        return model(**given)
    except ValidationError as error:
        raise SettingsError(_explain(error, given)) from None


def require_duckdb(settings: Settings) -> None:
    """Refuse the warehouse that this version cannot load into yet.

    Raises:
        SettingsError: the warehouse is ``snowflake``.
    """
    if settings.warehouse != "duckdb":
        raise SettingsError(
            f"warehouse {settings.warehouse} is not in this version yet; set SNOWLEDGER_WAREHOUSE=duckdb. "
            "What is logged meanwhile stays in the queue"
        )


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


def variables(field: str) -> list[str]:
    """The environment variables that set a field, in order of precedence."""
    names = Settings.model_fields[field].validation_alias
    assert isinstance(names, AliasChoices)  # noqa: S101 - by _setting
    return [str(name) for name in names.choices]


def _read_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} is not valid TOML: {error}") from None
    for name, value in values.items():
        if name not in Settings.model_fields:
            raise SettingsError(f"{path}: {_unknown('setting', name, Settings.model_fields)}")
        if Settings.model_fields[name].annotation is Path and isinstance(value, str) and value:
            values[name] = path.parent / Path(value).expanduser()
    return values


def _warn_of_unknown_variables() -> None:
    known = {name for field in Settings.model_fields for name in variables(field)}
    known |= {CONFIG_VARIABLE, DEBUG_VARIABLE}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            sys.stderr.write(f"snowledger: warning: {_unknown('variable', name, known)}; it is ignored\n")


def _unknown(kind: str, name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
    return f"unknown {kind} {ascii(name)[1:-1][:_MAX_SHOWN_CHARACTERS]} ({hint})"


def _explain(error: ValidationError, flags: dict[str, Any]) -> str:
    first = next(found for found in error.errors() if found["type"] != "default_factory_not_called")
    named = str(first["loc"][0])
    field = next(field for field in Settings.model_fields if named in (field, *variables(field)))
    value = first["input"]
    shown = ascii(str(value) if isinstance(value, Path) else value)
    if len(shown) > _MAX_SHOWN_CHARACTERS:
        shown = f"{shown[:_MAX_SHOWN_CHARACTERS]}..."
    accepted = Settings.model_fields[field].description
    return f"{_source(field, flags)}: {shown} is not accepted; accepted: {accepted}"


def _source(field: str, flags: dict[str, Any]) -> str:
    """Where a field's value comes from, in the words of who set it."""
    if field in flags:
        return f"flag --{field.replace('_', '-')}"
    variable = next((name for name in variables(field) if os.environ.get(name)), None)
    if variable is not None:
        return f"environment variable {variable}"
    path = find_file()
    if path is not None and field in _read_file(path):
        return f"setting {field} in {path}"
    return f"default of {field} (set {variables(field)[0]})"
