"""What the server has been sent."""

import threading
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Record:
    """A statement; sent again under the same request id it counts as one more attempt."""

    sql: str
    query_tag: str | None
    session: int
    request_id: str
    asynchronous: bool
    # Only the columns of its result were asked for.
    described: bool
    query_id: str = ""
    attempts: int = 1
    # False: there is nothing in the fake that could do it, it was only recorded.
    executed: bool = True
    error: int | None = None


class Recorder:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: list[Record] = []
        self._requests: list[str] = []

    def add(self, record: Record) -> None:
        with self._lock:
            self._records.append(record)

    def add_request(self, text: str) -> None:
        """Note a request that is no statement, such as `LOGIN loader`."""
        with self._lock:
            self._requests.append(text)

    def statements(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(record) for record in self._records]

    def requests(self) -> list[str]:
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        with self._lock:
            self._records.clear()
            self._requests.clear()
