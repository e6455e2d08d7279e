"""Settings: defaults, then ``snowledger.toml`` (see ``settings_file``), then the environment, then flags.

A variable that is set to nothing counts as not set.
"""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from snowledger_queue import OPERATIONAL_CUSTOMER

from . import settings_errors
from .errors import SettingsError
from .settings_file import CONFIG_VARIABLE, find_file, read_file
from .settings_values import (
    IDENTIFIERS,
    PREFIX,
    Bytes,
    CustomerId,
    CustomerIds,
    DatabasePath,
    FilePath,
    Identifier,
    Integer,
    LoopbackAddress,
    Number,
    OptionalIdentifier,
    OptionalPath,
    Word,
    Words,
    setting,
)

DEBUG_VARIABLE = f"{PREFIX}DEBUG"
DUCKDB_NAME = "warehouse.duckdb"
TOKENS_NAME = "tokens.json"


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

    home: FilePath = setting(
        "HOME", "QUEUE_DIR", accepted="the path of a folder, without ?", default_factory=default_home
    )
    customer: CustomerId = setting(
        "CUSTOMER",
        accepted="1 to 255 printable characters without / and \\, not snowledger",
        default_factory=default_customer,
    )
    allowed_customers: CustomerIds = setting(
        "ALLOWED_CUSTOMERS", accepted="customer ids separated by commas", default=frozenset()
    )
    """Further customers that the stdio identity may read and write."""
    warehouse: Annotated[Literal["duckdb", "snowflake"], Word] = setting(
        "WAREHOUSE", accepted="duckdb or snowflake", default="duckdb"
    )
    duckdb_path: DatabasePath = setting(
        "DUCKDB_PATH",
        accepted="the path of a file that is not named activities, as the schema is, and without ?",
        default_factory=lambda earlier: earlier["home"] / DUCKDB_NAME,
    )
    auto_uploader: bool = setting(
        "AUTO_UPLOADER",
        accepted="true or false",
        default_factory=lambda earlier: earlier["warehouse"] == "duckdb",
    )
    """Whether ``serve`` and ``query`` start an uploader when nobody drains the spool."""
    tokens_file: FilePath = setting(
        "TOKENS_FILE",
        accepted="the path of a file, without ?",
        default_factory=lambda earlier: earlier["home"] / TOKENS_NAME,
    )
    """Who may call the HTTP server."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Word] = setting(
        "LOG_LEVEL", accepted="debug, info, warning or error", default="info"
    )
    log_format: Annotated[Literal["console", "json"], Word] = setting(
        "LOG_FORMAT", accepted="console or json", default="console"
    )
    context_max_age_s: Number = setting("CONTEXT_MAX_AGE_S", accepted="seconds, a number above 0", default=300.0, gt=0)
    """A context that was compared with the warehouse longer ago is marked stale, and a refresh is asked for."""
    context_refresh_s: Number = setting(
        "CONTEXT_REFRESH_S",
        accepted="seconds, a number from 0; 0 refreshes only after loads and on request",
        default=120.0,
        ge=0,
    )
    """How often the uploader compares the contexts with the warehouse while a server runs."""
    templates_dir: OptionalPath = setting("TEMPLATES_DIR", accepted="the path of a folder, without ?", default=None)
    """The user's query templates."""
    query_time_limit_s: Number = setting(
        "QUERY_TIME_LIMIT_S",
        accepted="seconds, a number above 0, at most 86400",
        default=30.0,
        gt=0,
        le=86400,
    )
    query_concurrency: Integer = setting(
        "QUERY_CONCURRENCY", accepted="a whole number from 1 to 16", default=2, ge=1, le=16
    )
    """Queries that run at once."""
    query_row_cap: Integer = setting(
        "QUERY_ROW_CAP",
        accepted="rows, a whole number from 1 to 1000000000",
        default=1_000_000,
        ge=1,
        le=10**9,
    )
    """Rows of one result, whatever its template allows."""
    query_byte_cap: Bytes = setting(
        "QUERY_BYTE_CAP",
        accepted="bytes from 1 to 1TiB, such as 268435456 or 256MiB",
        default=256 * 1024**2,
        ge=1,
        le=1024**4,
    )
    """Bytes of one result's file, unless the caller asks for less."""
    artifact_max_age_days: Number = setting(
        "ARTIFACT_MAX_AGE_DAYS", accepted="days, a number above 0, at most 36500", default=90.0, gt=0, le=36500
    )
    artifact_max_bytes: Bytes = setting(
        "ARTIFACT_MAX_BYTES",
        accepted="bytes from 1 to 1PiB, such as 5368709120 or 5GiB",
        default=5 * 1024**3,
        ge=1,
        le=1024**5,
    )
    """Bytes of all artifacts; the oldest go first."""
    credits_per_hour_limit: Number = setting(
        "CREDITS_PER_HOUR_LIMIT", accepted="credits, a number above 0", default=100.0, gt=0
    )
    """Queries stop when what they are estimated to have used within an hour passes it."""
    snow_connection: str | None = setting(
        "SNOW_CONNECTION",
        "SNOW_CONNECTION",
        accepted="a name in connections.toml",
        default=None,
        min_length=1,
    )
    snowflake_database: Identifier = setting("SNOWFLAKE_DATABASE", accepted=IDENTIFIERS, default="CLAUDE_LOGS")
    snowflake_schema: Identifier = setting("SNOWFLAKE_SCHEMA", accepted=IDENTIFIERS, default="ACTIVITIES")
    snowflake_warehouse: Identifier = setting("SNOWFLAKE_WAREHOUSE", accepted=IDENTIFIERS, default="CLAUDE_LOGS_WH")
    snowflake_loader_role: Identifier = setting(
        "SNOWFLAKE_LOADER_ROLE", accepted=IDENTIFIERS, default="CLAUDE_LOGS_LOADER"
    )
    """The role that the uploader takes."""
    snowflake_reader_role: Identifier = setting(
        "SNOWFLAKE_READER_ROLE", accepted=IDENTIFIERS, default="CLAUDE_LOGS_READER"
    )
    snowflake_loader_user: OptionalIdentifier = setting("SNOWFLAKE_LOADER_USER", accepted=IDENTIFIERS, default=None)
    """A service user that ``ddl apply`` makes for the uploader."""
    snowflake_search_optimization: bool = setting(
        "SNOWFLAKE_SEARCH_OPTIMIZATION", accepted="true or false", default=False
    )
    """Whether ``ddl apply`` asks for it; only Enterprise edition has it."""
    monitor: LoopbackAddress = setting(
        "MONITOR",
        accepted="HOST:PORT with the host 127.0.0.1, [::1] or localhost, such as 127.0.0.1:9465",
        default=None,
    )
    """Where the uploader shows ``/healthz``, ``/readyz`` and ``/metrics``."""
    batch_age_s: Number = setting(
        "BATCH_AGE_S", accepted="seconds, a number from 0 to 3600", default=0.0, ge=0, le=3600
    )
    """How long the uploader lets events wait for others, so that a few do not keep Snowflake's warehouse awake."""
    backpressure_threshold_ms: Integer = setting(
        "BACKPRESSURE_THRESHOLD_MS",
        "BACKPRESSURE_THRESHOLD",
        accepted="milliseconds, a whole number above 0",
        default=120_000,
        gt=0,
    )
    """Low-value telemetry is sampled when the oldest queued event has waited longer."""
    backpressure_events: Integer = setting(
        "BACKPRESSURE_EVENTS", accepted="events, a whole number above 0", default=100_000, gt=0
    )
    """It is sampled when more wait; above twice as many no event is taken."""
    max_queue_bytes: Bytes = setting(
        "MAX_QUEUE_BYTES",
        "MAX_QUEUE_SIZE",
        accepted="bytes above 0, such as 52428800 or 50MiB",
        default=50 * 1024 * 1024,
        gt=0,
    )
    """Above it no event is taken; low-value telemetry is sampled above half of it."""
    min_free_disk: Bytes = setting(
        "MIN_FREE_DISK",
        accepted="bytes, such as 268435456 or 256MiB; 0 keeps no reserve",
        default=256 * 1024 * 1024,
        ge=0,
    )
    """No event is taken when the spool's disk has less free."""

    http_allowed_hosts: Words = setting(
        "HTTP_ALLOWED_HOSTS", accepted="host names separated by commas, without ports", default=frozenset()
    )
    """Names under which clients reach the HTTP server, besides localhost and the one it listens on."""
    http_allowed_origins: Words = setting(
        "HTTP_ALLOWED_ORIGINS",
        accepted="origins such as https://app.example.com, separated by commas",
        default=frozenset(),
    )
    """Web pages that may call the HTTP server, besides those of its own hosts."""
    http_rate_per_s: Number = setting(
        "HTTP_RATE_PER_S", accepted="calls per second, a number above 0", default=200.0, gt=0
    )
    """Of one identity, on average; twice as many at once."""
    http_max_connections: Integer = setting(
        "HTTP_MAX_CONNECTIONS", accepted="a whole number from 2 to 100000", default=4096, ge=2, le=100_000
    )
    http_tls_cert: OptionalPath = setting("HTTP_TLS_CERT", accepted="the path of a PEM file, without ?", default=None)
    http_tls_key: OptionalPath = setting("HTTP_TLS_KEY", accepted="the path of a PEM file, without ?", default=None)

    @property
    def duckdb_database(self) -> str | None:
        """DuckDB's name for its file; None where another warehouse is asked."""
        return self.duckdb_path.stem if self.warehouse == "duckdb" else None

    @property
    def monitor_address(self) -> tuple[str, int] | None:
        """Its host and port."""
        if self.monitor is None:
            return None
        host, _, port = self.monitor.rpartition(":")
        return host.strip("[]"), int(port)

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
            InitSettingsSource(settings_cls, _file_values(find_file(here=_reads_here(settings_cls)))),
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
        path = find_file(here=_reads_here(model))
        raise SettingsError(
            settings_errors.explain(error, model.model_fields, given, path, _file_values(path))
        ) from None


def keep_paths() -> None:
    """Make relative paths in the environment absolute, for a process that starts in another folder."""
    for name in (CONFIG_VARIABLE, *variables("templates_dir")):
        if os.environ.get(name):
            os.environ[name] = os.path.abspath(Path(os.environ[name]).expanduser())  # noqa: PTH100 - as every path


def variables(field: str) -> list[str]:
    """The environment variables that set a field, in order of precedence."""
    return settings_errors.variables(Settings.model_fields[field])


def _reads_here(model: type[BaseSettings]) -> bool:
    return not issubclass(model, ServerSettings)


def _file_values(path: Path | None) -> dict[str, Any]:
    return {} if path is None else read_file(path, Settings.model_fields)


def _warn_of_unknown_variables() -> None:
    known = {name for field in Settings.model_fields for name in variables(field)}
    known |= {CONFIG_VARIABLE, DEBUG_VARIABLE}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            sys.stderr.write(
                f"snowledger: warning: {settings_errors.unknown('variable', name, known)}; it is ignored\n"
            )
