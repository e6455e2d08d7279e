from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.queue_package.queue_process import QueueProcess

from snowledger_queue import Spool, open_spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return open_spool(tmp_path / "spool")


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
