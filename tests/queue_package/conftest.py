from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.queue_package.context_samples import Both
from tests.queue_package.queue_process import QueueProcess
from tests.queue_package.tail_samples import catch_up

from snowledger_queue import ContextReader, ContextStore, QueueTail, Spool, open_spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return open_spool(tmp_path / "spool")


@pytest.fixture
def tail(spool: Spool) -> QueueTail:
    made = QueueTail(spool)
    catch_up(made)
    return made


@pytest.fixture
def both(spool: Spool) -> Iterator[Both]:
    made = Both(ContextStore.open(spool), ContextReader(spool))
    yield made
    made.store.close()
    made.reader.close()


@pytest.fixture
def start() -> Iterator[Callable[..., QueueProcess]]:
    started: list[QueueProcess] = []

    def start_process(*arguments: str | Path, under: tuple[str, ...] = ()) -> QueueProcess:
        process = QueueProcess(*arguments, under=under)
        started.append(process)
        return process

    yield start_process
    for process in started:
        process.close()
