from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.fake_snowflake.client import Client
from tests.fake_snowflake.control import FakeSnowflake

Connect = Callable[..., Client]


@pytest.fixture
def connect(fake_snowflake: FakeSnowflake) -> Iterator[Connect]:
    """Opens connections, and closes them when the test is over."""
    clients: list[Client] = []

    def connect(**options: Any) -> Client:
        clients.append(Client(fake_snowflake, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Connect, fake_snowflake: FakeSnowflake) -> Client:
    """A connection to a database with a schema, a stage and a file format; what made them is not in the record."""
    client = connect()
    for sql in (
        "CREATE DATABASE db",
        "CREATE SCHEMA db.s",
        "CREATE STAGE files",
        "CREATE FILE FORMAT lines TYPE = JSON COMPRESSION = GZIP",
    ):
        client.rows(sql)
    fake_snowflake.forget()
    return client
