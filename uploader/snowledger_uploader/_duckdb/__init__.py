"""The embedded warehouse: one DuckDB file, which the loader and the queries of one process share."""

from ._warehouse import DuckDBWarehouse

__all__ = ["DuckDBWarehouse"]
