"""Whatever happens to the queue, a tail says of it what a fresh look at all its files says."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.queue_package.memory_filesystem import SHORT, MemoryFilesystem
from tests.queue_package.queue_machine import QueueMachine
from tests.queue_package.tail_samples import (
    CUSTOMERS,
    NOBODY,
    assert_recent,
    assert_right,
    catch_up,
    expected,
    insight,
    intact,
    line,
    put,
    said,
    seal,
    segment_path,
    stem,
)
from tests.thorough import examples

from snowledger_queue import QueueTail, Spool, contribution, open_spool
from snowledger_queue._queued import QueuedContents, _Customer, _Sealed

QUICK = settings(
    stateful_step_count=25,
    max_examples=examples(25),
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)

KINDS = st.lists(st.sampled_from("eeeioadx"), max_size=14)
"""Of lines: events, insights, operational, anonymous, damaged, and another customer's."""

TURN = st.integers(0, 99)
"""Which of the segments."""


SOON = 3
"""A seed with which each broken tail is noticed within a second; others take up to eight."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def _no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """All stamps are the same, so that a tail must look itself."""
    monkeypatch.setattr("tests.queue_package.memory_filesystem._clock", lambda: 1)
    monkeypatch.setattr("snowledger_queue._tail.monotonic", lambda: 1.0)
    monkeypatch.setattr("snowledger_queue._followed.monotonic", lambda: 1.0)


class TailMachine(RuleBasedStateMachine):
    """Real files, changed by hand in every way that a writer, recovery or the drain may change them, and in others."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(mkdtemp())
        self.spool = open_spool(self.home / "spool")
        self.tail = QueueTail(self.spool)
        self.number = 0
        self.active: list[Path] = []
        self.sealed: list[Path] = []
        self.answers: dict[tuple[str, int], object] = {}
        self.stored: list[bytes] = []
        """What `state.db` has of segments that are gone."""

    def teardown(self) -> None:
        shutil.rmtree(self.home)

    @rule(kinds=KINDS)
    def begin(self, kinds: list[str]) -> None:
        self.number += 1
        # Writers of their own: what one writes twice is told apart by other tests.
        path = segment_path(self.spool, self.number, writer=f"{self.number:012x}")
        self.active.append(put(path, *map(self._line, kinds)))

    @rule(turn=TURN, kinds=KINDS)
    def append(self, turn: int, kinds: list[str]) -> None:
        if self.active:
            put(self.active[turn % len(self.active)], *map(self._line, kinds))

    @rule(turn=TURN, size=st.integers(1, 400))
    def append_a_part(self, turn: int, size: int) -> None:
        if self.active:
            put(self.active[turn % len(self.active)], self._line("e")[:size])

    @rule(turn=TURN, share=st.floats(0, 1), whole=st.booleans(), kinds=KINDS, looked=st.booleans())
    def cut_back(self, turn: int, share: float, whole: bool, kinds: list[str], looked: bool) -> None:
        if not self.active:
            return
        path = self.active[turn % len(self.active)]
        content = path.read_bytes()
        size = int(len(content) * share)
        os.truncate(path, content.rfind(b"\n", 0, size) + 1 if whole else size)
        if looked:
            catch_up(self.tail)
        put(path, *map(self._line, kinds))

    @rule(turn=TURN)
    def seal(self, turn: int) -> None:
        if self.active:
            self.sealed.append(seal(self.active.pop(turn % len(self.active))))

    @rule(turn=TURN)
    def remove(self, turn: int) -> None:
        paths = self.sealed or self.active
        if paths:
            path = paths.pop(turn % len(paths))
            self.stored += intact(path.read_bytes())
            path.unlink()

    @rule()
    def begin_anew(self) -> None:
        self.tail = QueueTail(self.spool)
        self.answers.clear()

    @rule(turn=TURN)
    def leave_some_out(self, turn: int) -> None:
        catch_up(self.tail)
        drained = frozenset(stem(path) for path in self.sealed[: turn % 4])
        assert_right(self.tail, self.spool, drained, self.stored)

    @invariant()
    def the_tail_is_right(self) -> None:
        if self.number % 3 == 2:
            return  # several changes between two looks
        catch_up(self.tail)
        assert self.tail.pending() == 0
        assert_right(self.tail, self.spool, stored=self.stored)
        for customer in CUSTOMERS:
            answer = said(self.tail.queued(customer, NOBODY))
            assert self.answers.setdefault((customer, self.tail.version(customer)), answer) == answer

    def _line(self, kind: str) -> bytes:
        self.number += 1
        match kind:
            case "i":
                return insight(self.number)
            case "o":
                return line(self.number, "snowledger")
            case "a":
                return line(self.number, None)
            case "d":
                return line(self.number).replace(b"cdesk_0123abcd", b"cdesk_0123abce")
            case "x":
                return line(self.number, CUSTOMERS[self.number % 3], link="https://example.com/é")
        return line(self.number)


class Disk(MemoryFilesystem):
    """Counts what no tail sees happen: power fails, and bits flip in sealed files."""

    unseen = 0

    def crash(self, seed: int) -> None:
        self.unseen += 1
        super().crash(seed)

    def flip_bit(self, path: Path, bit: int) -> None:
        self.unseen += 1
        super().flip_bit(path, bit)


class Reading(MemoryFilesystem):
    """The same files without faults."""

    def __init__(self, disk: MemoryFilesystem) -> None:
        super().__init__()
        self.disk = disk
        self.cached = disk.cached

    def names_changed(self, folder: Path) -> int:
        return self.disk.names_changed(folder)


class FaultyQueueMachine(QueueMachine):
    """The queue's own model, with a tail that follows what its writers, recovery and drain do amid faults."""

    filesystem = Disk

    def __init__(self) -> None:
        super().__init__()
        self._unseen = -1
        self._written_again = False
        """In a new segment, for a flush failed, or what a failed write had left could not be cut off."""

    @invariant()
    def the_tail_is_right(self) -> None:
        assert isinstance(self.disk, Disk)
        if self._unseen != self.disk.unseen:
            self._unseen = self.disk.unseen
            self._tail = QueueTail(Spool(self.spool.home, Reading(self.disk)))
        catch_up(self._tail)
        assert self._tail.pending() == 0
        names = self.disk.names(self.spool.queue)
        lines = [one for name in names for one in intact(self.disk.peek(self.spool.queue / name))]
        queued = self._tail.queued("acme", NOBODY)
        assert_recent(queued, lines, [one for one, name in self.submitted.items() if name in self.delivered], "acme")
        self._written_again |= bool(self.disk.flush_failed) or len(set(lines)) < len(lines)
        if self._written_again:
            # They count where they were first; that copy may have been drained.
            ids = {found.event.event_id for one in lines if (found := contribution(one)) and found.event}
            assert len(ids - self.delivered) <= sum(queued.hours.values()) <= len(lines)
        else:
            assert queued.hours == expected(lines, "acme")[0]


def test_a_tail_says_what_lies_in_the_queue() -> None:
    run_state_machine_as_test(TailMachine, settings=QUICK)


@pytest.mark.usefixtures("_no_time_passes")
def test_a_tail_follows_writers_recovery_and_drain_through_faults() -> None:
    run_state_machine_as_test(FaultyQueueMachine, settings=QUICK)


@pytest.mark.usefixtures("_no_time_passes")
def test_an_event_that_is_written_again_because_a_cut_failed_counts_once() -> None:
    machine = FaultyQueueMachine()
    machine.fault(("write", (SHORT, errno.ENOSPC)))
    machine.fault(("truncate", (errno.EIO,)))
    machine.append(turn=0, groups=[[0, 0]], uploader_runs=False)
    assert len(machine.disk.names(machine.spool.queue)) == 2
    machine.the_tail_is_right()
    assert sum(machine._tail.queued("acme", NOBODY).hours.values()) == 2
    machine.teardown()


# The models are worth something only if they notice a tail that is wrong.


def with_stamps_taken_as_final(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snowledger_queue._stamp.STEP_S", -1.0)


def without_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snowledger_queue._followed._OVERLAP", 0)


def with_damaged_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snowledger_queue._followed.damage", lambda _: None)


def with_what_was_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueuedContents, "drop", lambda *_: None)


def with_one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueuedContents, "_touch", lambda *_: None)


def with_events_only_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    add = QueuedContents.add
    monkeypatch.setattr(QueuedContents, "add", lambda *found, **how: add(*found, **how) + "9")


def with_sealed_segments_of_all_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Customer, "forget", lambda *_: None)


def with_drained_segments_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Sealed, "of", lambda *_: ())


@pytest.mark.usefixtures("_no_time_passes")
@pytest.mark.parametrize(
    ("machine", "broken"),
    [
        (FaultyQueueMachine, with_stamps_taken_as_final),
        (TailMachine, without_overlap),
        (TailMachine, with_damaged_lines),
        (TailMachine, with_what_was_drained),
        (TailMachine, with_one_version),
        (TailMachine, with_events_only_counted),
        (TailMachine, with_sealed_segments_of_all_times),
        (TailMachine, with_drained_segments_counted),
    ],
)
def test_the_models_notice_a_tail(
    machine: type[RuleBasedStateMachine],
    broken: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken(monkeypatch)
    quick = settings(QUICK, max_examples=2000, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(seed(SOON)(type("Seeded", (machine,), {})), settings=quick)
