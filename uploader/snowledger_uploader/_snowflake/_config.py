"""Where in Snowflake the ledger is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SnowflakeConfig:
    """A connection and the names to use through it.

    The names are identifiers as Snowflake stores them; whoever makes a config has checked that they hold no quotes.
    """

    connection: str
    """The name of an entry in ``connections.toml``, which has account, user and credentials."""
    database: str
    schema: str
    warehouse: str
    role: str
    """The loader's."""
