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
class BreakerStatus:
    """The circuit breaker around the warehouse. Times are in the form of ``ts``."""

    state: str
    """``closed`` (calls pass), ``open`` (none does) or ``half-open`` (one is under way, to see)."""
    since: str
    """When it opened, or closed the last time."""
    failures: int
    """In a row, since the warehouse last answered."""
    next_probe_at: str | None
    """``open``: when the next call may pass."""
    opened: int
    """How often it opened since the uploader started."""
    retries: int
    """Calls after a failure since the uploader started."""


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
    breaker: BreakerStatus | None = None


def write_uploader_status(spool: Spool, status: UploaderStatus) -> None:
    """Replace the status file. Raises ``OSError``."""
    write_small_file(spool.uploader_status, orjson.dumps(asdict(status)))


def read_uploader_status(spool: Spool) -> UploaderStatus | None:
    """The last written status; None when there is none or it cannot be read (it is informative only)."""
    try:
        fields = orjson.loads(spool.uploader_status.read_bytes())
        last, breaker = fields.pop("last_batch"), fields.pop("breaker", None)
        return UploaderStatus(
            **fields,
            last_batch=None if last is None else BatchStatus(**last),
            breaker=None if breaker is None else BreakerStatus(**breaker),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
