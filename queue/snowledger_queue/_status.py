"""What the uploader says of itself, in one small file that anybody of the same user may read at any time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import orjson

from ._spool import write_small_file

if TYPE_CHECKING:
    from ._spool import Spool


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """The last batch that the warehouse confirmed."""

    batch_id: str
    events: int
    """Its lines that are in the warehouse now."""
    inserted: int
    """Of them, those that the warehouse did not know."""
    loaded_at: str
    seconds: float
    """From its first read to the confirmed receipt."""
    lag_s: float
    """From the oldest event's arrival in the queue to the confirmed receipt."""


@dataclass(frozen=True, slots=True)
class UploaderStatus:
    """The uploader's state at its last change."""

    pid: int
    state: str
    """``starting``, ``idle``, ``loading``, ``waiting`` (for the warehouse, see ``problem``), ``authentication needed``
    (the warehouse does not accept the credentials) or ``stopped``."""
    updated_at: str
    batches: int = 0
    events: int = 0
    inserted: int = 0
    dead_letters: int = 0
    problem: str | None = None
    last_batch: BatchStatus | None = None
    contexts_as_of: str | None = None
    """Up to when the contexts hold what the warehouse holds; None until it was looked at once."""
    contexts_problem: str | None = None
    """Why they could not be brought up to date."""


def write_uploader_status(spool: Spool, status: UploaderStatus) -> None:
    """Replace the status file. Raises ``OSError``."""
    write_small_file(spool.uploader_status, orjson.dumps(asdict(status)))


def read_uploader_status(spool: Spool) -> UploaderStatus | None:
    """The last written status; None when there is none or it cannot be read (it is informative only)."""
    try:
        fields = orjson.loads(spool.uploader_status.read_bytes())
        last = fields.pop("last_batch")
        return UploaderStatus(**fields, last_batch=None if last is None else BatchStatus(**last))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
