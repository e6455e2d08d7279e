from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.ledger import Ledger

from snowledger_queue import Spool, open_spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return open_spool(tmp_path / "spool")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.close()
