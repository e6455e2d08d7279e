"""Whatever fails, dies or loses power, what was acknowledged arrives unchanged; and the model would notice if not."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.queue_package.memory_filesystem import MemoryFilesystem
from tests.queue_package.queue_machine import QueueMachine
from tests.thorough import examples

from snowledger_queue import File
from snowledger_queue._segment import ActiveSegment

QUICK = settings(
    stateful_step_count=30,
    max_examples=examples(60),
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


SOON = 26
"""A seed with which each broken queue is noticed within half a second; others take up to eight."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def test_whatever_happens_acknowledged_events_arrive_unchanged() -> None:
    run_state_machine_as_test(QueueMachine, settings=QUICK)


# The model is worth something only if it notices a queue, or a disk, that breaks an invariant.


class LockIgnored(MemoryFilesystem):
    def claim(self, path: Path) -> File | None:
        if path in self.cached:
            self.cached[path].holder = None
        return super().claim(path)


class FolderNotFlushed(MemoryFilesystem):
    def sync_folder(self, folder: Path) -> None:
        pass


def without_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.queue_package.memory_filesystem._Inode.flush", lambda _: None)


def without_folder_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueueMachine, "filesystem", FolderNotFlushed)


def without_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueueMachine, "filesystem", LockIgnored)


def without_roll_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActiveSegment, "_roll_back", lambda _: None)


def written_again_after_failed_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActiveSegment, "abandon", lambda _: None)


def with_tail_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.queue_package.memory_filesystem._MemoryFile.truncate", lambda *_: None)


def with_unverified_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snowledger_queue._reader.damage", lambda _: None)


@pytest.mark.parametrize(
    "broken",
    [
        without_flush,
        without_folder_flush,
        without_lock,
        without_roll_back,
        written_again_after_failed_flush,
        with_tail_sealed,
        with_unverified_lines,
    ],
)
def test_the_model_notices_a_queue(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    quick = settings(QUICK, max_examples=5000, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(seed(SOON)(type("Seeded", (QueueMachine,), {})), settings=quick)
