"""A warehouse in memory that can be told to fail; what the drain loop may rely on and nothing more."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from snowledger_queue import Changes, contribution
from snowledger_uploader import Batch, Query, QueryAnswer, Receipt, RowsRejectedError, WarehouseUnavailableError

POISON = b'"poison":true'
"""A row with this is rejected."""


@dataclass
class FakeWarehouse:
    batch_bytes: int = 1024 * 1024
    batch_files: int = 1000
    rows: dict[str, bytes] = field(default_factory=dict)
    """By id: what was loaded, once each."""
    kept: dict[str, Receipt] = field(default_factory=dict)
    """Receipts by batch id."""
    loads: list[Batch] = field(default_factory=list)
    """Batches that `load` was called with."""
    inserts: int = 0
    unavailable: int = 0
    """So many calls of `load` fail before anything is loaded."""
    lost_replies: int = 0
    """So many calls of `load` fail after everything was loaded."""
    forgets_receipts: bool = False
    on_load: Callable[[Batch], None] = lambda _batch: None
    on_changes: Callable[[], None] = lambda: None
    is_open: bool = False

    async def open(self) -> None:
        self.is_open = True

    async def load(self, batch: Batch) -> Receipt:
        assert self.is_open
        self.loads.append(batch)
        self.on_load(batch)
        lines = [line for file in batch.files for line in file.read_bytes().split(b"\n")[:-1]]
        assert len(lines) == batch.events
        if self.unavailable:
            self.unavailable -= 1
            raise WarehouseUnavailableError("the warehouse is down")
        if any(POISON in line for line in lines):
            raise RowsRejectedError("a row is bad")
        new = {line[16:48].decode(): line for line in lines if line[16:48].decode() not in self.rows}
        self.rows |= new
        self.inserts += len(new)
        receipt = Receipt(batch.batch_id, batch.events, len(new), "2026-11-21T04:20:47.123456Z")
        if new and not self.forgets_receipts:
            self.kept[batch.batch_id] = receipt
        if self.lost_replies:
            self.lost_replies -= 1
            raise WarehouseUnavailableError("the reply was lost")
        return receipt

    async def find_receipt(self, batch_id: str) -> Receipt | None:
        assert self.is_open
        return self.kept.get(batch_id)

    async def changes(self, cursor: str | None) -> Changes:
        """Rows keep their order, so a cursor is how many there were."""
        assert self.is_open
        self.on_changes()
        known = int(cursor or 0)
        reset = known > len(self.rows)
        lines = list(self.rows.values())[0 if reset else known :]
        found = [read for line in lines if (read := contribution(line)) is not None]
        counts = Counter((read.customer, read.hour, read.activity) for read in found)
        return Changes(str(len(self.rows)), reset, False, [(*key, count) for key, count in counts.items()], lines)

    async def query(self, request: Query, watch: Callable[[int, int], None]) -> QueryAnswer:
        raise NotImplementedError

    async def rest(self, *, over: bool = False) -> None:  # noqa: ARG002 - the interface
        await self.close()

    async def close(self) -> None:
        self.is_open = False
