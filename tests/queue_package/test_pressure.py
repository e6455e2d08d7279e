"""How full a spool is, told by names and sizes; the marks, and how they are left; which telemetry is sampled."""

import os
import time
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.queue_package.queue_samples import leave_segment, sample_event, sample_events

from snowledger_queue import (
    LOW_VALUE,
    SAMPLE_RATE,
    Load,
    LoadMeter,
    OsFilesystem,
    PressureGauge,
    PressureLimits,
    RotationPolicy,
    SegmentName,
    Spool,
    kept_by_sample,
    may_sample,
    open_writer,
)

LIMITS = PressureLimits(max_bytes=1000, events=100, age_s=60, min_free_bytes=500)
EMPTY = Load(0, 0, 0.0, 0.0, 10_000)
ORDER = ["normal", "sampling", "refusing"]


class Sizes(OsFilesystem):
    """Counts the files that are looked at; none may be read."""

    def __init__(self) -> None:
        self.looks = 0

    def size(self, path: Path) -> int:
        self.looks += 1
        return super().size(path)

    def read(self, path: Path, offset: int = 0) -> bytes:  # noqa: ARG002 - the protocol
        raise AssertionError(path)


def judged(load: Load) -> tuple[str, str | None]:
    return PressureGauge(LIMITS).judge(load)[:2]


async def log(spool: Spool, count: int) -> None:
    async with open_writer(spool, RotationPolicy(max_bytes=1)) as writer:
        for event in sample_events(count):
            await writer.append([event])


def test_what_waits_is_measured_by_names_and_sizes_each_sealed_segment_once(spool: Spool) -> None:
    anyio.run(log, spool, 5)
    line = sample_event(0).line
    filesystem = Sizes()
    meter = LoadMeter(replace(spool, filesystem=filesystem))
    first = meter.measure()
    assert first[:2] == (5, 5 * len(line))
    # The copies have the oldest name; by now that was a long time ago.
    leave_segment(spool, line * 3)
    second = meter.measure()
    assert second[:2] == (8, 8 * len(line)), "events of an active segment are estimated by its bytes"
    assert second.oldest_age_s > first.oldest_age_s + 3600
    assert filesystem.looks == 6
    for segment in spool.sealed_segments():
        segment.path.unlink()
    assert meter.measure()[:2] == (round(3 * len(line) / 400), 3 * len(line)), "without a sealed one, by a usual line"
    for path in spool.active_segments():
        path.unlink()
    assert meter.measure()[:4] == (0, 0, 0.0, 0.0)


def test_what_younger_segments_have_overtaken_does_not_count_as_a_queue_that_stands_still(spool: Spool) -> None:
    names = [SegmentName(1_763_698_847_123 + 1000 * number, "0123456789ab", number, 1).sealed(1) for number in range(5)]
    meter = LoadMeter(spool)

    def ages(*there: int) -> list[float]:
        """Of the queue and of its flow, as multiples of 1 s before the last of the names."""
        for number, name in enumerate(names):
            path = spool.queue / name
            path.write_bytes(sample_event(number).line) if number in there else path.unlink(missing_ok=True)
        base = time.time() - 1_763_698_847.123
        load = meter.measure()
        return [round(base - age) if age else -1 for age in (load.oldest_age_s, load.flow_age_s)]

    assert ages(0, 1, 2) == [0, 0], "nothing was loaded yet"
    assert ages(1, 2) == [1, 1], "loaded in order"
    assert ages(1, 3) == [1, 3], "2 was loaded before 1"
    assert ages(1, 3, 4) == [1, 3]
    assert ages(1) == [1, -1]
    assert ages(4) == [4, 4]


@pytest.mark.parametrize(("content", "events"), [(b"abc\n", 0), (b"", 5)])
def test_a_name_that_promises_too_little_or_too_much_is_no_obstacle(spool: Spool, content: bytes, events: int) -> None:
    (spool.queue / SegmentName(1_763_698_847_123, "0123456789ab", 1, 1).sealed(events)).write_bytes(content)
    leave_segment(spool, sample_event(0).line)
    load = LoadMeter(spool).measure()
    assert load[:2] == (events + 1, len(content) + len(sample_event(0).line))


@pytest.mark.skipif(os.name == "nt", reason="links and FIFOs")
def test_what_is_no_segment_of_ours_does_not_count(spool: Spool) -> None:
    name = SegmentName(1_763_698_847_123, "0123456789ab", 1, 5)
    (spool.queue / name.sealed(5)).symlink_to("/etc/passwd")
    os.mkfifo(spool.queue / name._replace(sequence=2).sealed(5))
    (spool.queue / "notes.ndjson").write_bytes(b"x" * 100)
    assert LoadMeter(spool).measure()[:3] == (0, 0, 0.0)


def test_a_queue_that_cannot_be_listed_is_an_error_of_the_system(spool: Spool) -> None:
    spool.queue.rmdir()
    with pytest.raises(FileNotFoundError):
        LoadMeter(spool).measure()


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (EMPTY, ("normal", None)),
        (EMPTY._replace(bytes=500, events=100, flow_age_s=60), ("normal", None)),
        (EMPTY._replace(bytes=501), ("sampling", "bytes")),
        (EMPTY._replace(events=101), ("sampling", "events")),
        (EMPTY._replace(flow_age_s=60.1), ("sampling", "age")),
        (EMPTY._replace(bytes=1000, events=200, flow_age_s=1e9, free_bytes=500), ("sampling", "bytes")),
        (EMPTY._replace(bytes=1001), ("refusing", "bytes")),
        (EMPTY._replace(events=201), ("refusing", "events")),
        (EMPTY._replace(free_bytes=499), ("refusing", "disk")),
        (EMPTY._replace(bytes=1001, events=201, free_bytes=0), ("refusing", "disk")),
    ],
)
def test_each_mark_is_passed_above_its_value(load: Load, expected: tuple[str, str | None]) -> None:
    assert judged(load) == expected
    assert bool(PressureGauge(LIMITS).judge(load).problem()) == (expected[0] != "normal")


def test_a_mark_is_left_at_four_fifths_of_it() -> None:
    gauge = PressureGauge(LIMITS)
    loads = [EMPTY._replace(bytes=size) for size in (1001, 801, 800, 401, 400, 401)]
    assert [gauge.judge(load).state for load in loads] == [
        *("refusing", "refusing", "sampling", "sampling", "normal", "normal")
    ]
    loads = [EMPTY._replace(free_bytes=free) for free in (499, 624, 625)]
    assert [gauge.judge(load).state for load in loads] == ["refusing", "refusing", "normal"]


def test_a_reserve_of_nothing_never_refuses() -> None:
    gauge = PressureGauge(replace(LIMITS, min_free_bytes=0))
    assert gauge.judge(EMPTY._replace(free_bytes=0)).state == "normal"


loads = st.builds(
    Load, st.integers(0, 250), st.integers(0, 1250), st.floats(0, 80), st.floats(0, 80), st.integers(0, 1000)
)


def scaled(load: Load, factor: float) -> Load:
    """The load at which every mark is so much nearer."""
    return Load(
        round(load.events * factor),
        round(load.bytes * factor),
        load.oldest_age_s * factor,
        load.flow_age_s * factor,
        round(load.free_bytes / factor),
    )


@given(st.lists(loads, min_size=1, max_size=30))
def test_the_state_is_that_of_the_load_or_one_that_is_not_yet_left(
    history: list[Load],
) -> None:
    gauge = PressureGauge(LIMITS)
    for load in history:
        state = ORDER.index(gauge.judge(load).state)
        assert ORDER.index(judged(load)[0]) <= state
        assert state <= ORDER.index(judged(scaled(load, 1.26))[0])


@given(loads, st.lists(st.floats(0.81, 1), max_size=10))
def test_a_load_that_hovers_within_a_fifth_does_not_change_the_state(load: Load, factors: list[float]) -> None:
    # Without a history: of a mark that was passed before, the load itself may be just above what leaves it.
    gauge = PressureGauge(LIMITS)
    state = gauge.judge(load).state
    for factor in factors:
        hovering = Load(
            int(load.events * factor) + 1,
            int(load.bytes * factor) + 1,
            load.oldest_age_s * factor,
            load.flow_age_s * factor,
            load.free_bytes,
        )
        if all(now <= then for now, then in zip(hovering, load, strict=True)):
            assert gauge.judge(hovering).state == state


PROBLEMS: list[tuple[Load, str]] = [
    (EMPTY._replace(free_bytes=2 * 1024**2), "the disk is nearly full: 2.0 MiB are free, and 256.0 MiB are kept"),
    (EMPTY._replace(bytes=60 * 1024**2, free_bytes=2**40), "the queue is full: 60.0 MiB wait to be loaded"),
    (EMPTY._replace(events=150_000, free_bytes=2**40), "the queue is filling up: 150,000 events wait to be loaded"),
    (EMPTY._replace(flow_age_s=200, free_bytes=2**40), "the queue is filling up: events up to 200 s old wait"),
]


@pytest.mark.parametrize(("load", "said"), PROBLEMS)
def test_the_problem_names_what_is_full_and_the_setting(load: Load, said: str) -> None:
    problem = PressureGauge(PressureLimits()).judge(load).problem()
    assert problem.startswith(said)
    assert any(name in problem for name in ("min_free_disk", "max_queue_bytes", "backpressure_"))


def test_a_tenth_is_kept_and_always_the_same() -> None:
    ids = [f"{number:032x}" for number in range(20_000)]
    kept = [kept_by_sample(activity_id, SAMPLE_RATE) for activity_id in ids]
    assert 1800 < sum(kept) < 2200
    assert kept == [kept_by_sample(activity_id, SAMPLE_RATE) for activity_id in ids]


@pytest.mark.parametrize("activity", sorted(LOW_VALUE))
def test_only_frequent_telemetry_without_money_and_failure_may_be_sampled(activity: str) -> None:
    assert may_sample(activity, {"ok": True}, None)
    assert not may_sample(activity, {"ok": True}, 0.0)
    assert not may_sample(activity, {"ok": False}, None)


NEVER: list[str] = [
    *("insight_recorded", "error_encountered", "retry_attempted", "fallback_triggered", "sql_executed"),
    *("sql_completed", "artifact_created", "batch_loaded", "backpressure", "schema_applied", "kill_switch_changed"),
    *("schema_drift_detected", "session_started", "user_asked", "claude_responded", "file_written", "my_own"),
]


@pytest.mark.parametrize("name", NEVER)
def test_what_somebody_looks_at_one_by_one_is_never_sampled(name: str) -> None:
    assert not may_sample(f"cdesk.{name}", {}, None)
