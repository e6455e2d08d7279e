"""Events, folds and reads for the tests of contexts."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from snowledger_queue import (
    INSIGHT_ACTIVITY,
    Changes,
    ContextReader,
    ContextStore,
    CustomerContext,
    Origin,
    Queued,
    contribution,
    new_event,
    timestamp,
)

ORIGIN = Origin(source_version="1.2.3", session_id="session-1")
HASH = "ab" * 32
START = datetime(2026, 11, 21, 4, tzinfo=UTC)


@dataclass
class Both:
    """A store and a reader of the same state.db."""

    store: ContextStore
    reader: ContextReader


def at(minutes: float = 0) -> str:
    """A time: minutes after a full hour."""
    return timestamp(START + timedelta(minutes=minutes))


def id_of(number: int) -> str:
    return f"{number:032x}"


def event(number: int, ts: str | None = None, customer: str = "acme", **features: object) -> bytes:
    return new_event(
        ORIGIN,
        activity="cdesk.user_asked",
        customer=customer,
        feature_json=features,
        activity_id=id_of(number),
        ts=ts or at(),
    ).line


def insight(
    number: int,
    value: object = None,
    *,
    customer: str = "acme",
    subject: str = "product/pro",
    metric: str = "mrr_usd",
    recorded_at: str | None = None,
    valid_from: str | None = None,
    valid_to: str | None = None,
    verified: bool = False,
) -> bytes:
    return new_event(
        ORIGIN,
        activity=INSIGHT_ACTIVITY,
        customer=customer,
        feature_json={
            "subject": subject,
            "metric": metric,
            "value": value,
            "provenance_query_hash": HASH,
            "valid_from": valid_from,
            "valid_to": valid_to,
            "verified": verified,
        },
        activity_id=id_of(number),
        ts=recorded_at or at(),
    ).line


def changes(lines: Iterable[bytes], cursor: str = "1", *, reset: bool = False) -> Changes:
    """What a warehouse would say of these new lines."""
    lines = list(lines)
    counts: Counter[tuple[str, str, str]] = Counter()
    for line in lines:
        read = contribution(line)
        if read is not None:
            counts[read.customer, read.hour, read.activity] += 1
    return Changes(cursor, reset, False, [(*key, number) for key, number in counts.items()], lines)


def fold(store: ContextStore, *lines: bytes, now: str | None = None) -> None:
    store.fold(changes(lines), now or at())


def in_queue(lines: Iterable[bytes], customer: str = "acme") -> Queued:
    """What the queue would give of these lines."""
    found = [read for read in map(contribution, lines) if read is not None and read.customer == customer]
    return Queued(
        atoms=[read.atom for read in found if read.atom is not None],
        hours=Counter((read.hour, read.activity) for read in found),
        recent=[read.event for read in found if read.event is not None],
    )


def nothing(_drained: frozenset[str]) -> Queued:
    return Queued((), {}, ())


def queue(*lines: bytes) -> Callable[[frozenset[str]], Queued]:
    return lambda _drained: in_queue(lines)


def read(
    reader: ContextReader,
    queued: Callable[[frozenset[str]], Queued] = nothing,
    now: str | None = None,
    customer: str = "acme",
) -> CustomerContext:
    return reader.read(customer, queued, now or at(), 1_000, allowed=frozenset())


def values(context: CustomerContext) -> list[bytes]:
    return [atom.value for atom in context.insights]
