"""The uploader's configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ._limits import QueryLimits
from ._snowflake import SnowflakeConfig


@dataclass(frozen=True, slots=True)
class UploaderConfig:
    """All that an uploader needs to know."""

    home: Path
    """The spool folder."""
    duckdb_path: Path
    """The embedded warehouse's file."""
    version: str
    """snowledger's version, recorded in its own events."""
    snowflake: SnowflakeConfig | None = None
    """Load into Snowflake, and not into the file."""
    batch_age_s: float = 0.0
    """How long events may wait for others, so that few of them do not keep a warehouse awake."""
    once: bool = False
    """Drain what is there, run the queries that were asked for, and return."""
    exit_when_unused: bool = False
    """Return when no server uses the spool any more, the queue is empty and no query is waited for."""
    refresh_interval_s: float | None = 120.0
    """How often contexts are compared with the warehouse while a server lives; None: after loads and on request."""
    templates_dir: Path | None = None
    """The user's query templates."""
    limits: QueryLimits = field(default_factory=QueryLimits)
    """Of queries."""
    monitor: tuple[str, int] | None = None
    """Host and port where the uploader shows how it goes; None: nowhere."""
    notify_socket: str | None = None
    """Where the service manager listens (``NOTIFY_SOCKET``); None: nowhere."""
