"""The account: its objects, its stages, who may log in, and who has."""

import tempfile
from pathlib import Path

import duckdb
from fakesnow.instance import FakeSnow
from tests.fake_snowflake.server.catalog import Catalog
from tests.fake_snowflake.server.faults import Faults
from tests.fake_snowflake.server.jobs import Jobs
from tests.fake_snowflake.server.options import Value
from tests.fake_snowflake.server.recorder import Recorder
from tests.fake_snowflake.server.sessions import Session
from tests.fake_snowflake.server.stage import StageFiles

# Snowflake answers a statement that takes longer by telling where to ask for its result.
_PATIENCE_S = 45.0


class Account:
    """Everything there is; `reset` makes it new."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.recorder = Recorder()
        self._make()

    def _make(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fake_snowflake_")
        # Secrets by user: passwords and tokens, and the public keys in PEM format.
        self.secrets: dict[str, set[str]] = {}
        self.keys: dict[str, str] = {}
        self.engine = FakeSnow(create_database_on_connect=False, create_schema_on_connect=False)
        self.stages = StageFiles(Path(self._folder.name) / "stages")
        self.formats: dict[tuple[str, str, str], dict[str, Value]] = {}
        self.catalog = Catalog()
        self.patience_s = _PATIENCE_S
        self.jobs = Jobs()
        self.sessions: dict[str, Session] = {}
        self.expired: dict[str, Session] = {}

    async def reset(self) -> None:
        """Forget everything."""
        await self.close()
        self.faults.clear()
        self.recorder.clear()
        self._make()

    async def close(self) -> None:
        """Stop what runs and remove all data."""
        for task in self.jobs.stop_all():
            await task
        for session in self.everybody():
            await session.close()
        self.engine.duck_conn.close()
        self._folder.cleanup()

    def everybody(self) -> set[Session]:
        """All sessions, whatever their tokens."""
        return {*self.sessions.values(), *self.expired.values()}

    def own_connection(self) -> duckdb.DuckDBPyConnection:
        """A connection for looking on from outside."""
        connection: duckdb.DuckDBPyConnection = self.engine.duck_conn.cursor()
        return connection
