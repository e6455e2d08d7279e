"""Whatever became of a segment's bytes: intact lines survive, nothing else passes for one, no byte vanishes."""

from pathlib import Path

from tests.fuzz.fuzzing import Surface, fuzz
from tests.queue_package.context_samples import event, insight
from tests.queue_package.memory_filesystem import MemoryFilesystem

from snowledger_queue import (
    QueueTail,
    SegmentName,
    Spool,
    intact_lines,
    recover,
    verify_segment,
    with_checksum,
)

LINES = [event(1, text="zürich"), insight(2, {"a": 1.5}), event(3, customer="globex"), event(4, customer="a" * 255)]
SEEDS = [b"".join(LINES), LINES[0], LINES[1] * 3]
TOKENS = [*LINES, b',"_crc":"', b"}\n", b"\n\n", bytes(100), b'{"activity_id":"']
NAME = SegmentName(1_763_698_847_123, "0123456789ab", 1, None)


def run(data: bytes) -> str:
    spool = Spool(Path("/spool"), MemoryFilesystem())
    lines = data.split(b"\n")[:-1]
    survivors = [line for line in lines if line + b"\n" in LINES]
    put(spool, NAME.active, data)
    tail = QueueTail(spool)
    tail.read()
    assert recover(spool) == bool(lines)
    tail.read()
    for customer in ("acme", "globex"):
        tail.queued(customer, frozenset())
    torn = [spool.filesystem.read(spool.torn / name) for name in spool.filesystem.names(spool.torn)]
    kept = [spool.filesystem.read(segment.path) for segment in spool.sealed_segments()]
    assert b"".join([*kept, *torn]) == data
    assert spool.active_segments() == []
    for segment in spool.sealed_segments():
        verified = verify_segment(spool, segment)
        assert [line for _, line in intact_lines(spool, segment)] == survivors
        assert verified.events == len(survivors)
        assert verified.events + len(verified.damaged) == segment.events == len(lines)
        assert all(data[at : at + len(line)] == line for at, line, *_ in verified.damaged)
    return "some lines survive" if survivors else "no line survives"


def cut_after_sealing(data: bytes) -> str:
    """A sealed segment that is not what its name says, and a line that is nonsense with a right checksum."""
    spool = Spool(Path("/spool"), MemoryFilesystem())
    put(spool, NAME.sealed(len(LINES)), data)
    put(spool, NAME._replace(sequence=2).sealed(1), with_checksum(data.replace(b"\n", b"") + b"}"))
    tail = QueueTail(spool)
    tail.read()
    tail.queued("acme", frozenset())
    for segment in spool.sealed_segments():
        verified = verify_segment(spool, segment)
        assert verified.events == len(list(intact_lines(spool, segment)))
        assert verified.events + len(verified.damaged) + verified.missing >= segment.events
    return run(data)


def put(spool: Spool, name: str, data: bytes) -> None:
    file = spool.filesystem.create(spool.queue / name)
    assert file is not None
    file.write(data)
    file.sync()
    file.close()


def test_intact_lines_of_a_damaged_segment_survive_and_nothing_else_passes() -> None:
    outcomes = fuzz(Surface(SEEDS, TOKENS, cut_after_sealing))
    assert outcomes["some lines survive"]
