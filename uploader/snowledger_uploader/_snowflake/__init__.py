"""Snowflake: batches go through a stage, with the official connector, which is imported when it is used."""

from ._config import SnowflakeConfig
from ._warehouse import SnowflakeWarehouse

__all__ = ["SnowflakeConfig", "SnowflakeWarehouse"]
