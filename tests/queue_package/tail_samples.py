"""Lines of several customers, and what a tail must say of a queue, read off its files from scratch."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.queue_package.queue_samples import ORIGIN

from snowledger_queue import (
    RECENT_EVENTS,
    Atom,
    Queued,
    QueueTail,
    RecentEvent,
    RotationPolicy,
    SegmentName,
    Spool,
    contribution,
    damage,
    new_event,
    parse_segment_name,
)
from snowledger_queue._recent import newest

CUSTOMERS = ("acme", "zürich", "globex")
NOBODY = frozenset[str]()
WRITER = "0123456789ab"

SELDOM = RotationPolicy(max_age_s=600)

STEP_S = 0.03
"""Longer than a file system's clock stands still."""


def line(number: int, customer: str | None = "acme", activity: str = "cdesk.user_asked", **members: object) -> bytes:
    """An event's line; lines of numbers with as many digits have the same length."""
    features: object = {"number": f"{number:06d}"}
    if activity == "cdesk.insight_recorded":
        features = {"subject": f"s{number % 5}", "metric": "m", "value": number, "provenance_query_hash": "a" * 64}
    made = new_event(
        ORIGIN,
        activity=activity,
        customer=customer,
        anonymous_customer_id=None if customer else "device-1",
        feature_json=members.pop("feature_json", features),
        activity_id=str(members.pop("activity_id", f"{number:032x}")),
        ts=str(members.pop("ts", f"2026-11-21T{number // 7 % 24:02d}:20:47.{number % 1_000_000:06d}Z")),
        query_tag="cdesk_0123abcd",
        link=members.pop("link", None),
    )
    assert not members
    return made.line


def insight(number: int, customer: str = "acme") -> bytes:
    return line(number, customer, "cdesk.insight_recorded")


def segment_path(spool: Spool, sequence: int = 1, events: int | None = None, writer: str = WRITER) -> Path:
    """The path of a segment; of an active one when the number of events is not given."""
    name = SegmentName(1_763_698_847_123, writer, sequence, events)
    return spool.queue / (name.active if events is None else name.sealed(events))


def put(path: Path, *lines: bytes) -> Path:
    """Append the lines to the file."""
    with path.open("ab", buffering=0) as file:
        file.write(b"".join(lines))
    return path


def seal(path: Path) -> Path:
    name = parse_segment_name(path.name)
    assert name is not None
    return path.rename(path.with_name(name.sealed(path.read_bytes().count(b"\n"))))


def stem(path: Path) -> str:
    name = parse_segment_name(path.name)
    assert name is not None
    return name.stem


def catch_up(tail: QueueTail) -> None:
    """What a server does before it answers."""
    if tail.pending():
        tail.read()


def intact(content: bytes) -> list[bytes]:
    """The lines of a segment that count."""
    return [one for one in content.split(b"\n")[:-1] if damage(one) is None]


def expected(lines: Iterable[bytes], customer: str) -> tuple[dict[tuple[str, str], int], set[Atom], list[RecentEvent]]:
    """Counts, atoms and recent events of the customer in the lines."""
    mine = [found for one in lines if (found := contribution(one)) is not None and found.customer == customer]
    events = {found.event.event_id: found.event for found in mine if found.event is not None}
    return (
        dict(Counter((found.hour, found.activity) for found in mine)),
        {found.atom for found in mine if found.atom is not None},
        sorted(events.values(), reverse=True)[:RECENT_EVENTS],
    )


def said(queued: Queued) -> tuple[dict[tuple[str, str], int], set[Atom], list[RecentEvent]]:
    """The same of an answer."""
    assert len(set(queued.atoms)) == len(queued.atoms)
    return dict(queued.hours), set(queued.atoms), sorted(queued.recent, reverse=True)


def assert_right(tail: QueueTail, spool: Spool, drained: frozenset[str] = NOBODY, stored: Iterable[bytes] = ()) -> None:
    """The tail says what lies in the folder; `stored` are lines that went from there into `state.db`."""
    paths = sorted(spool.queue.iterdir())
    lines = [one for path in paths if stem(path) not in drained for one in intact(path.read_bytes())]
    stored = [*stored, *(one for path in paths if stem(path) in drained for one in intact(path.read_bytes()))]
    for customer in CUSTOMERS:
        queued = tail.queued(customer, drained)
        assert said(queued)[:2] == expected(lines, customer)[:2]
        assert_recent(queued, lines, stored, customer)


def assert_recent(queued: Queued, lines: Iterable[bytes], stored: Iterable[bytes], customer: str) -> None:
    """With those of `state.db`, recent events are those of all these lines."""
    recent = said(queued)[2]
    found = {read.event for one in lines if (read := contribution(one)) is not None and read.customer == customer}
    assert set(recent) <= found
    before = expected(stored, customer)[2]
    assert newest((*recent, *before)) == newest((*expected(lines, customer)[2], *before))


def numbers(queued: Queued) -> list[int]:
    """Which of ``line`` are the recent events, the newest first."""
    recent = sorted(queued.recent, reverse=True)
    return [int(json.loads(event.features or b"")["number"]) for event in recent]


def events(tail: QueueTail, customer: str = "acme", drained: frozenset[str] = NOBODY) -> int:
    """How many of the customer it has seen."""
    return sum(tail.queued(customer, drained).hours.values())


def pause() -> None:
    """Let the clock of the file system go on, so that what is there is known for certain."""
    time.sleep(STEP_S)


def settle(tail: QueueTail) -> None:
    for _ in range(2):
        catch_up(tail)
        pause()
    assert tail.pending() == 0
