"""Transactions as Snowflake has them."""

import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from duckdb import DuckDBPyConnection

T = TypeVar("T")

_numbers = itertools.count(1_795_000_000_000_000_000)


class Transactions:
    """The transaction of a session.

    An error ends a transaction of DuckDB's, but not one of Snowflake's. So what was done since BEGIN is kept, to be
    done once more in a new transaction when a statement has failed.
    """

    def __init__(self, connection: DuckDBPyConnection, shield: Callable[[], None]) -> None:
        """`shield` is called when the running statement must no longer be interrupted."""
        self._connection = connection
        self._shield = shield
        self._done: list[Callable[[], object]] | None = None
        # Another session may end the transaction.
        self._lock = threading.RLock()
        self.number = 0
        self.name = ""
        self.started = ""

    @property
    def open(self) -> bool:
        return self._done is not None

    def begin(self, name: str | None = None) -> None:
        with self._lock:
            if self._done is None:
                self._connection.begin()
                self._done = []
                self.number = next(_numbers)
                self.name = name or str(self.number)
                self.started = datetime.now(UTC).isoformat()

    def commit(self) -> None:
        with self._lock:
            if self._done is not None:
                self._shield()
                self._done = None
                self._connection.commit()

    def rollback(self) -> None:
        with self._lock:
            if self._done is not None:
                self._shield()
                self._done = None
                self._connection.rollback()

    def write(self, step: Callable[[], T]) -> T:
        """Do all or nothing of a statement that writes."""
        with self._lock:
            return self._write(step)

    def read(self, step: Callable[[], T]) -> T:
        """Do a statement that does not write, or one within the open transaction."""
        with self._lock:
            return self._read(step)

    def _write(self, step: Callable[[], T]) -> T:
        if self._done is not None:
            result = self._read(step)
            self._done.append(step)
            return result
        self._connection.begin()
        try:
            result = step()
        except Exception:
            self._shield()
            self._connection.rollback()
            raise
        self._shield()
        self._connection.commit()
        return result

    def _read(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except Exception:
            self._shield()
            if self._done is not None:
                self._connection.rollback()
                self._connection.begin()
                for earlier in self._done:
                    earlier()
            raise
