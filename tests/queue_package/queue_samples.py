"""Events for the tests of the queue."""

from contextlib import suppress
from pathlib import Path

from snowledger_queue import Event, Origin, SegmentName, Spool, new_event

ORIGIN = Origin(source_version="1.2.3", session_id="session-1")


def sample_event(number: int, **features: object) -> Event:
    """An event that is the same bytes each time."""
    return new_event(
        ORIGIN,
        activity="cdesk.user_asked",
        customer="acme",
        feature_json={"number": number, **features},
        activity_id=f"{number:032x}",
        ts="2026-11-21T04:20:47.123456Z",
        query_tag="cdesk_0123abcd",
    )


def sample_events(count: int, start: int = 0) -> list[Event]:
    return [sample_event(number) for number in range(start, start + count)]


def leave_segment(spool: Spool, content: bytes, sequence: int = 1) -> Path:
    """An active segment whose writer is gone."""
    path = spool.queue / SegmentName(1_763_698_847_123, "0123456789ab", sequence, None).active
    path.write_bytes(content)
    return path


def queued_lines(spool: Spool) -> list[bytes]:
    """All complete lines of the queue, by segment, also while it is written to."""
    found: dict[str, bytes] = {}
    # Sealed ones last: an active one may become one meanwhile.
    for path in spool.active_segments():
        with suppress(FileNotFoundError):
            found[path.stem] = path.read_bytes()
    for segment in spool.sealed_segments():
        found[segment.name.stem] = segment.path.read_bytes()
    return [line + b"\n" for stem in sorted(found) for line in found[stem].split(b"\n")[:-1]]
