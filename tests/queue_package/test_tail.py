"""The tail sees every whole line that lies in the queue, whoever wrote it, once, and nothing that does not."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.queue_package.fault_filesystem import FaultFilesystem
from tests.queue_package.queue_process import QueueProcess
from tests.queue_package.queue_samples import sample_event, sample_events
from tests.queue_package.tail_samples import (
    NOBODY,
    SELDOM,
    assert_right,
    catch_up,
    events,
    insight,
    line,
    numbers,
    put,
    seal,
    segment_path,
    settle,
    stem,
)

from snowledger_queue import (
    OsFilesystem,
    QueueTail,
    Spool,
    open_writer,
    recover,
)
from snowledger_queue._followed import SeenIds

# Whose lines are seen


async def test_an_acknowledged_event_is_seen_at_once(spool: Spool, tail: QueueTail) -> None:
    async with open_writer(spool, SELDOM) as writer:
        for number in range(40):
            await writer.append([sample_event(number)])
            assert tail.pending() > 0
            tail.read()
            assert events(tail) == number + 1
            assert tail.pending() == 0
            assert_right(tail, spool)


async def test_several_writers_are_followed_together(spool: Spool, tail: QueueTail) -> None:
    async with open_writer(spool, SELDOM) as one, open_writer(spool, SELDOM) as other:
        for number in range(20):
            await asyncio.gather(one.append([sample_event(2 * number)]), other.append([sample_event(2 * number + 1)]))
            catch_up(tail)
            assert events(tail) == 2 * number + 2
    catch_up(tail)
    assert_right(tail, spool)


def test_another_process_and_what_it_leaves_when_killed(
    spool: Spool, tail: QueueTail, start: Callable[..., QueueProcess]
) -> None:
    process = start("append", spool.home, "5", "3", "100000")
    for group in range(5):
        process.next()
        catch_up(tail)
        assert events(tail) >= 3 * (group + 1)
    process.kill()
    catch_up(tail)
    assert events(tail) == 15
    (path,) = spool.active_segments()
    put(path, b'{"activity_id":"torn')
    catch_up(tail)
    version = tail.version("acme")
    assert recover(spool) == 1
    catch_up(tail)
    assert (events(tail), tail.version("acme")) == (15, version)
    assert_right(tail, spool)


def test_what_lay_there_before_is_read(spool: Spool) -> None:
    put(segment_path(spool, 1, 2), line(1), line(2))
    put(segment_path(spool, 2), line(3), insight(4))
    tail = QueueTail(spool)
    catch_up(tail)
    assert_right(tail, spool)
    assert events(tail) == 4


def test_anonymous_and_operational_events_are_nobodys(spool: Spool, tail: QueueTail) -> None:
    put(segment_path(spool), line(1, None), line(2, "snowledger", "cdesk.batch_loaded"))
    catch_up(tail)
    assert events(tail, "snowledger") == 0
    assert tail.version("snowledger") == tail.version("device-1") == 0


# Sealing and draining


def test_sealing_changes_nothing_and_is_not_read_again(spool: Spool, tail: QueueTail) -> None:
    path = put(segment_path(spool), line(1), insight(2))
    settle(tail)
    queued, version = tail.queued("acme", NOBODY), tail.version("acme")
    seal(path)
    assert tail.pending() == 0
    assert (tail.queued("acme", NOBODY), tail.version("acme")) == (queued, version)


def test_lines_written_just_before_the_sealing_are_seen(spool: Spool, tail: QueueTail) -> None:
    path = put(segment_path(spool), line(1))
    settle(tail)
    seal(put(path, line(2)))
    assert tail.pending() > 0
    tail.read()
    assert numbers(tail.queued("acme", NOBODY)) == [2, 1]


def test_a_segment_that_is_gone_is_dropped_without_reading(spool: Spool, tail: QueueTail) -> None:
    first, second = put(segment_path(spool, 1, 1), line(1)), put(segment_path(spool, 2, 1), line(2))
    settle(tail)
    version = tail.version("acme")
    first.unlink()
    assert tail.pending() == 0
    assert tail.version("acme") != version
    assert numbers(tail.queued("acme", NOBODY)) == [2]
    second.unlink()
    assert tail.pending() == 0
    assert tail.version("acme") == 0
    assert tail.queued("acme", NOBODY) == ((), {}, ())


def test_drained_segments_are_passed_over_while_they_lie_there(spool: Spool, tail: QueueTail) -> None:
    paths = [put(segment_path(spool, number, 1), line(number), insight(10 + number)) for number in range(1, 5)]
    catch_up(tail)
    drained = frozenset(stem(path) for path in paths[:2]) | {"another"}
    assert_right(tail, spool, drained)
    assert events(tail, drained=drained) == 4
    assert_right(tail, spool)
    assert events(tail, drained=frozenset(map(stem, paths))) == 0


def test_an_answer_does_not_change_when_the_tail_goes_on(spool: Spool, tail: QueueTail) -> None:
    path = put(segment_path(spool), line(1), insight(2))
    catch_up(tail)
    before = tail.queued("acme", NOBODY)
    kept = (list(before.atoms), dict(before.hours), list(before.recent))
    put(path, line(3), insight(4))
    catch_up(tail)
    assert (list(before.atoms), dict(before.hours), list(before.recent)) == kept
    assert_right(tail, spool)


def test_a_customer_who_is_gone_takes_no_memory(spool: Spool, tail: QueueTail) -> None:
    for number in range(50):
        path = put(segment_path(spool, number), line(number, f"customer-{number}"))
        catch_up(tail)
        tail.queued(f"customer-{number}", NOBODY)
        path.unlink()
        catch_up(tail)
    kept = tail._contents
    assert not any((tail._names, tail._files, tail._open, kept._customers, kept._reading, kept._sealed, kept._hours))


# Lines that are not whole, not intact, or not there any more


def test_a_line_counts_when_its_newline_is_there(spool: Spool, tail: QueueTail) -> None:
    path = put(segment_path(spool), line(1), line(2)[:-1])
    settle(tail)
    assert numbers(tail.queued("acme", NOBODY)) == [1]
    put(path, b"\n")
    catch_up(tail)
    assert numbers(tail.queued("acme", NOBODY)) == [2, 1]


def test_damaged_lines_are_passed_over_and_logged_once(
    spool: Spool, tail: QueueTail, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = put(segment_path(spool), line(1), line(2).replace(b"000002", b"000009"), b"\n", b"\xff\0{\n", line(3))
    settle(tail)
    assert numbers(tail.queued("acme", NOBODY)) == [3, 1]
    assert [record.getMessage() for record in caplog.records] == [f"3 damaged lines of {path.name} are in no context"]
    put(path, line(4))
    seal(path)
    settle(tail)
    assert_right(tail, spool)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("paused", [True, False])
@pytest.mark.parametrize("cut_to", [0, 1, 2])
@pytest.mark.parametrize("regrown", [0, 1, 2, 3, 5])
def test_what_a_failed_write_left_is_forgotten(
    spool: Spool, tail: QueueTail, paused: bool, cut_to: int, regrown: int
) -> None:
    lines = [line(number) for number in range(3)]
    path = put(segment_path(spool), *lines)
    catch_up(tail)
    if paused:
        settle(tail)
    os.truncate(path, sum(map(len, lines[:cut_to])))
    put(path, *(line(number) for number in range(10, 10 + regrown)))
    catch_up(tail)
    assert numbers(tail.queued("acme", NOBODY)) == [*reversed(range(10, 10 + regrown)), *reversed(range(cut_to))]
    assert_right(tail, spool)


def test_a_torn_line_that_is_cut_back_and_written_over(spool: Spool, tail: QueueTail) -> None:
    path = put(segment_path(spool), line(1), line(2)[:50])
    catch_up(tail)
    os.truncate(path, len(line(1)))
    put(path, line(3), line(4)[:7])
    catch_up(tail)
    os.truncate(path, 2 * len(line(1)))
    catch_up(tail)
    assert numbers(tail.queued("acme", NOBODY)) == [3, 1]


def test_a_cut_in_the_middle_of_a_reading_is_noticed(spool: Spool) -> None:
    class Rewriting(OsFilesystem):
        """Lets the file be rewritten when half of it was read."""

        def read(self, path: Path, offset: int = 0) -> bytes:
            content = super().read(path, offset)
            if rewritten:
                path.write_bytes(rewritten[0])
                content = content[: len(line(1)) + 100] + rewritten.pop()[len(line(1)) + 100 :]
            return content

    tail = QueueTail(replace(spool, filesystem=Rewriting()))
    put(segment_path(spool), line(1), line(2), line(3))
    rewritten = [line(1) + line(4) + line(5)]
    catch_up(tail)
    assert not rewritten
    assert numbers(tail.queued("acme", NOBODY)) == [5, 4, 1]


async def test_a_failed_write_of_the_writer_leaves_no_trace(spool: Spool) -> None:
    disk = FaultFilesystem()
    gated = replace(spool, filesystem=disk)
    tail = QueueTail(gated)
    async with open_writer(gated, SELDOM) as writer:
        await writer.append(sample_events(2))
        catch_up(tail)
        disk.inject("write", -1, OSError(errno.ENOSPC, "full"))
        with pytest.raises(Exception, match="full"):
            await writer.append(sample_events(4, start=10))
        catch_up(tail)
        await writer.append(sample_events(3, start=20))
        catch_up(tail)
        assert_right(tail, spool)
        assert events(tail) == 5


# Twice the same event


@pytest.mark.parametrize("together", [True, False])
async def test_lines_written_again_after_a_failed_flush_count_once(spool: Spool, together: bool) -> None:
    disk = FaultFilesystem()
    gated = replace(spool, filesystem=disk)
    tail = QueueTail(gated)
    async with open_writer(gated, SELDOM) as writer:
        await writer.append(sample_events(3))
        if not together:
            catch_up(tail)
        disk.inject("sync", OSError(errno.EIO, "bad disk"))
        await writer.append(sample_events(2, start=3))
        if not together:
            catch_up(tail)
            assert events(tail) == 5
        await writer.append(sample_events(30, start=5))
        catch_up(tail)
        assert events(tail) == 35
        assert len(spool.active_segments()) == 2
        assert recover(spool) == 1
        catch_up(tail)
        assert events(tail) == 35
        (abandoned,) = spool.sealed_segments()
        drained = frozenset([abandoned.name.stem])
        assert events(tail, drained=drained) == 30
        abandoned.path.unlink()
        catch_up(tail)
        assert events(tail) == 30


def test_what_is_written_again_stays_known_when_the_first_copy_goes(spool: Spool, tail: QueueTail) -> None:
    first = put(segment_path(spool, 1), line(1), insight(2))
    second = put(segment_path(spool, 2), line(1), insight(2), line(3))
    catch_up(tail)
    assert events(tail) == 3
    os.truncate(second, 0)
    catch_up(tail)
    put(second, line(1), insight(2), line(4))
    catch_up(tail)
    assert events(tail) == 3
    first.unlink()
    catch_up(tail)
    queued = tail.queued("acme", NOBODY)
    assert (events(tail), numbers(queued), len(queued.atoms)) == (1, [4, 1], 1)


def test_atoms_and_recent_events_are_listed_once(spool: Spool, tail: QueueTail) -> None:
    for sequence in (1, 3, 5):
        put(segment_path(spool, sequence, writer=f"{sequence:012x}"), line(1), insight(2))
        catch_up(tail)
        queued = tail.queued("acme", NOBODY)
        assert (len(queued.atoms), len(queued.recent)) == (1, 1)


def test_a_repeated_event_counts_once_even_in_one_segment_read_anew(spool: Spool, tail: QueueTail) -> None:
    path = put(segment_path(spool, 1), line(1), line(2), line(1))
    catch_up(tail)
    assert events(tail) == 2
    os.truncate(path, len(line(1)))
    put(path, line(1), line(3))
    catch_up(tail)
    assert events(tail) == 2
    put(segment_path(spool, 2), line(1), line(2))
    catch_up(tail)
    assert events(tail) == 3


def test_an_event_that_was_drained_does_not_count_when_it_is_repeated(spool: Spool, tail: QueueTail) -> None:
    path = put(segment_path(spool, 1, 1), line(1))
    catch_up(tail)
    path.unlink()
    put(segment_path(spool, 2), line(1))
    catch_up(tail)
    assert events(tail) == 0
    assert numbers(tail.queued("acme", NOBODY)) == [1]


def test_the_ids_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snowledger_queue._followed._SEEN_IDS", 10)
    seen = SeenIds()
    for number in range(100):
        assert seen.claim(b"%d" % number, "a")
        assert not seen.claim(b"%d" % max(0, number - 9), "b")
    assert len(seen._latest) + len(seen._earlier) <= 20
    assert seen.claim(b"1", "a")


def test_of_an_event_repeated_with_its_key_the_later_one_is_recent(spool: Spool, tail: QueueTail) -> None:
    early, late = "2026-11-21T01:00:00.000000Z", "2026-11-21T02:00:00.000000Z"
    for sequence, ts in ((1, early), (2, late), (3, early)):
        put(segment_path(spool, sequence), line(1, ts=ts, activity_id="b" * 32))
    catch_up(tail)
    (event,) = tail.queued("acme", NOBODY).recent
    assert event.ts == late
