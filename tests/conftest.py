"""What holds for all tests."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.acceptance.ledger import Ledger
from tests.command_server import SERVER

pytest_plugins = ["tests.fake_snowflake.plugin"]

# An example's time is the machine's, and no promise; the time limit of a test holds.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Commands under test are sent SIGINT, which a shell's background jobs ignore and pass on ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _no_command_server_is_left() -> Iterator[None]:
    yield
    SERVER.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.close()
