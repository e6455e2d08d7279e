"""What the uploader needs to know of Snowflake, from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import SettingsError

if TYPE_CHECKING:
    from snowledger_uploader import SnowflakeConfig

    from .settings import Settings


def snowflake_config(settings: Settings) -> SnowflakeConfig | None:
    """Where the uploader loads into Snowflake; None when the warehouse is a DuckDB file.

    Raises:
        SettingsError: there is no connection to go through.
    """
    if settings.warehouse == "duckdb":
        return None
    if settings.snow_connection is None:
        raise SettingsError(
            "the warehouse snowflake needs a connection: set SNOW_CONNECTION to a name in connections.toml. "
            "What is logged meanwhile stays in the queue"
        )
    from snowledger_uploader import SnowflakeConfig

    return SnowflakeConfig(
        connection=settings.snow_connection,
        database=settings.snowflake_database,
        schema=settings.snowflake_schema,
        warehouse=settings.snowflake_warehouse,
        role=settings.snowflake_loader_role,
    )
