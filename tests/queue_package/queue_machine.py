"""The queue against a model: several writers and an uploader, and all that can happen to them."""

import asyncio
import errno
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
)
from tests.queue_package.memory_filesystem import SHORT, TAKEN, Killed, MemoryFilesystem
from tests.queue_package.queue_samples import sample_event

from snowledger_queue import (
    QueueError,
    QueueWriter,
    RotationPolicy,
    Spool,
    intact_lines,
    recover,
    verify_segment,
)

UPLOADER = 0
"""The process that recovers and drains."""

TURN = st.integers(0, 2)
"""Which of the live writers; past the last a new one starts."""

GROUPS = st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=3), max_size=4)
"""Sizes of the events that are appended together, for some appends in a row."""

FAULTS: list[tuple[str, tuple[int, ...]]] = [
    ("write", (errno.ENOSPC,)),
    ("write", (SHORT,)),
    ("write", (SHORT, errno.ENOSPC)),
    ("write", (SHORT, SHORT, errno.EFBIG)),
    ("sync", (errno.EIO,)),
    ("sync", (errno.EIO, errno.EIO)),
    ("truncate", (errno.EIO,)),
    ("create", (errno.ENOSPC,)),
    ("create", (errno.EMFILE,)),
    ("create", (TAKEN,)),
    ("create", (TAKEN,) * 9),
    ("claim", (errno.EIO,)),
    ("read", (errno.EIO,)),
    ("rename", (errno.EIO,)),
    ("rename", (errno.ENOSPC,)),
    ("remove", (errno.EIO,)),
    ("sync_folder", (errno.EIO,)),
]
"""Which calls fail, and how in a row."""


class QueueMachine(RuleBasedStateMachine):
    """Every rule is a call of one process or something that happens to it; the invariants are the promises."""

    filesystem: Callable[[], MemoryFilesystem] = MemoryFilesystem

    def __init__(self) -> None:
        super().__init__()
        self.disk = type(self).filesystem()
        self.spool = Spool(Path("/spool"), self.disk)
        self.writers: dict[int, QueueWriter] = {}
        self.processes = UPLOADER
        self.submitted: dict[bytes, str] = {}
        self.acked: dict[str, bytes] = {}
        self.delivered: set[str] = set()
        self.reported: set[str] = set()
        self.flipped: dict[str, set[str]] = {}
        self.sealed: dict[str, bytes] = {}
        self.power_fails_with_process = False
        self.seed = 0

    # What the processes do

    @rule(turn=TURN, groups=GROUPS, uploader_runs=st.booleans())
    def append(self, turn: int, groups: list[list[int]], uploader_runs: bool) -> None:
        for sizes in groups:
            first = len(self.submitted)
            events = [sample_event(first + n, pad="x" * size) for n, size in enumerate(sizes)]
            self.submitted.update({event.line: event.activity_id for event in events})
            process, writer = self._writer(turn)
            with self._as_process(process), suppress(QueueError):
                writer._commit([event.line for event in events])
                self.acked.update({event.activity_id: event.line for event in events})
            if uploader_runs:
                self.recover()

    @rule(turn=TURN, stops=st.booleans())
    def seal(self, turn: int, stops: bool) -> None:
        process, writer = self._writer(turn)
        with self._as_process(process):
            writer._seal()
        if stops:
            self._end(process)

    @rule()
    def recover(self) -> None:
        with self._as_process(UPLOADER):
            recover(self.spool)

    @rule(most=st.integers(1, 8))
    def drain(self, most: int) -> None:
        with self._as_process(UPLOADER):
            for segment in self.spool.sealed_segments()[:most]:
                try:
                    verified = verify_segment(self.spool, segment)
                    lines = [line + b"\n" for _, line in intact_lines(self.spool, segment)]
                except OSError:
                    continue
                assert len(lines) == verified.events
                assert set(lines) <= self.submitted.keys()
                self.delivered |= {self.submitted[line] for line in lines}
                if segment.path.name in self.flipped:
                    assert verified.damaged
                    self.reported |= self.flipped[segment.path.name]
                elif not self._flush_failed(segment.path):
                    assert not verified.missing
                try:
                    self.disk.remove(segment.path)
                    self.disk.sync_folder(self.spool.queue)
                except OSError:
                    continue

    # What happens to them

    @rule(fault=st.sampled_from(FAULTS))
    def fault(self, fault: tuple[str, tuple[int, ...]]) -> None:
        call, faults = fault
        self.disk.inject(call, *faults)

    @rule()
    def faults_stop(self) -> None:
        self.disk.stop_faults()

    @rule(calls=st.integers(1, 8), power=st.booleans(), seed=st.integers(0, 2**16))
    def process_will_die(self, calls: int, power: bool, seed: int) -> None:
        self.disk.kill_in(calls)
        self.power_fails_with_process = power
        self.seed = seed

    @rule(turn=TURN)
    def kill_writer(self, turn: int) -> None:
        process, _ = self._writer(turn)
        self._end(process)

    @rule(seed=st.integers(0, 2**16))
    def lose_power(self, seed: int) -> None:
        self.writers.clear()
        self.disk.crash(seed)

    @rule(turn=st.integers(0, 99), bit=st.integers(0, 2**16))
    def flip_bit(self, turn: int, bit: int) -> None:
        paths = [segment.path for segment in self.spool.sealed_segments()]
        intact = [path for path in paths if path in self.disk.stable and path.name not in self.flipped]
        if not intact:
            return
        path = intact[turn % len(intact)]
        content = self.disk.peek(path)
        bit %= len(content) * 8
        start, ids = 0, set()
        for line in content.split(b"\n"):
            end = start + len(line) + 1
            # The flip of a newline damages the next line too.
            if start - 1 <= bit // 8 < end and line + b"\n" in self.submitted:
                ids.add(self.submitted[line + b"\n"])
            start = end
        self.disk.flip_bit(path, bit)
        self.flipped[path.name] = ids
        self.sealed[path.name] = self.disk.peek(path)

    # What must hold

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        names = self.disk.names(self.spool.queue)
        lines = {line for name in names for line in self.disk.peek(self.spool.queue / name).split(b"\n")[:-1]}
        damaged = {name for found, ids in self.flipped.items() if found in names for name in ids}
        kept = {name for name, line in self.acked.items() if line[:-1] in lines}
        assert self.acked.keys() <= self.delivered | self.reported | damaged | kept

    @invariant()
    def a_sealed_segment_never_changes(self) -> None:
        for segment in self.spool.sealed_segments():
            content = self.disk.peek(segment.path)
            if not self._flush_failed(segment.path):  # else power loss drops lines that nobody acknowledged
                assert self.sealed.setdefault(segment.path.name, content) == content

    def teardown(self) -> None:
        """After the faults everything acknowledged is delivered or reported, and a fresh event flows."""
        self.disk.stop_faults()
        self.lose_power(self.seed)
        self.nothing_acknowledged_is_lost()
        self.append(0, [[0]], uploader_runs=False)
        self.seal(0, stops=True)
        self.recover()
        self.drain(len(self.spool.sealed_segments()))
        assert self.disk.names(self.spool.queue) == []
        assert self.acked.keys() <= self.delivered | self.reported
        assert list(self.submitted.values())[-1] in self.delivered

    def _writer(self, turn: int) -> tuple[int, QueueWriter]:
        if turn >= len(self.writers):
            self.processes += 1
            self.writers[self.processes] = asyncio.run(self._make_writer())
        return sorted(self.writers.items())[min(turn, len(self.writers) - 1)]

    async def _make_writer(self) -> QueueWriter:
        return QueueWriter(self.spool, RotationPolicy(max_bytes=1500, max_age_s=3600))

    def _as_process(self, process: int) -> "_Process":
        return _Process(self, process)

    def _end(self, process: int) -> None:
        self.writers.pop(process, None)
        self.disk.end_process(process)

    def _flush_failed(self, path: Path) -> bool:
        return self.disk.cached[path] in self.disk.flush_failed


class _Process:
    """Runs calls of one process, and ends it when it is killed in one."""

    def __init__(self, machine: QueueMachine, process: int) -> None:
        self.machine = machine
        self.process = process

    def __enter__(self) -> None:
        self.machine.disk.process = self.process

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        if kind is not Killed:
            return False
        self.machine._end(self.process)
        if self.machine.power_fails_with_process:
            self.machine.lose_power(self.machine.seed)
        return True
