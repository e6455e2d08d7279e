"""What holds for all tests."""

import signal

import pytest


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Commands under test are sent SIGINT, which a shell's background jobs ignore and pass on ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
