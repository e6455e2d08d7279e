"""Fixtures: a fake Snowflake for every test."""

import os
from collections.abc import Iterator

import pytest
from tests.fake_snowflake.control import FakeSnowflake

# The driver would ask the metadata services of three clouds where it runs, at addresses beyond this machine.
os.environ.setdefault("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")


@pytest.fixture(scope="session")
def fake_server() -> Iterator[FakeSnowflake]:
    """The server process; it is the same for all tests of a worker."""
    with FakeSnowflake() as server:
        yield server


@pytest.fixture
def fake_snowflake(fake_server: FakeSnowflake) -> FakeSnowflake:
    """A new account in a server that runs already."""
    fake_server.clear()
    return fake_server
