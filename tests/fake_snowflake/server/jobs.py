"""Statements under way and done: their replies, for a while by the id of the request that brought them."""

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from tests.fake_snowflake.server.errors import SnowflakeError, cancelled, timed_out, translated
from tests.fake_snowflake.server.recorder import Record
from tests.fake_snowflake.server.results import Chunk, Outcome, data_of
from tests.fake_snowflake.server.sessions import Session

# An interruption between two steps of a statement is lost, so it is repeated.
_INTERRUPT_S = 0.01
# So many replies are remembered: far more than any client has under way, and no test's results fill the memory.
_KEPT = 500


class Job:
    """One execution of a statement."""

    def __init__(
        self, session: Session, record: Record, parameters: dict[str, Any], *, address: str, delay_s: float
    ) -> None:
        self.session = session
        self.sql = record.sql
        # Where clients reach the server.
        self.address = address
        self.parameters = parameters
        self.record = record
        self.query_id = record.query_id = str(uuid.uuid4())
        self.started_ms = int(time.time() * 1000)
        self.ended_ms = 0
        self.status = "QUEUED"
        self.reply: dict[str, Any] = {}
        self.chunks: list[Chunk] = []
        self.stopped: SnowflakeError | None = None
        self.interruptible = True
        self._stop = threading.Event()
        self._delay_s = delay_s
        self.task: asyncio.Task[None] | None = None

    def wait(self, seconds: float) -> None:
        """Let time pass, unless the statement is stopped."""
        self._stop.wait(seconds)
        if self.stopped:
            raise self.stopped

    def stop(self, reason: SnowflakeError) -> bool:
        """Have the statement fail for a reason; False if it is over."""
        if self.reply or self.stopped:
            return False
        self.stopped = reason
        self._stop.set()
        return True

    async def run(self, execute: Callable[["Job"], Outcome]) -> None:
        """Wait for the session, execute, and keep the reply."""
        session = self.session
        async with session.lock:
            session.job, self.status = self, "RUNNING"
            limit_s = float(session.setting("STATEMENT_TIMEOUT_IN_SECONDS") or 0)
            timer = asyncio.get_running_loop().call_later(limit_s, self.stop, timed_out(limit_s)) if limit_s else None
            interrupter = asyncio.create_task(self._interrupt())
            try:
                self.reply = await asyncio.to_thread(self._execute, execute)
                self.status = "SUCCESS"
            except Exception as error:  # noqa: BLE001 - whatever went wrong is the client's to hear
                failure = self.stopped or translated(error)
                self.record.error = failure.code
                self.reply, self.status = failed(failure, self.query_id), "FAILED_WITH_ERROR"
            finally:
                interrupter.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await interrupter
                if timer:
                    timer.cancel()
                self.ended_ms = int(time.time() * 1000)
                session.job = None
                session.facts.last_query_id = self.query_id

    def _execute(self, execute: Callable[["Job"], Outcome]) -> dict[str, Any]:
        self.wait(self._delay_s)
        return self._success(execute(self))

    async def _interrupt(self) -> None:
        while True:
            await asyncio.sleep(_INTERRUPT_S)
            if self.stopped and self.interruptible:
                self.session.interrupt()

    def _success(self, outcome: Outcome) -> dict[str, Any]:
        session = self.session
        chosen = (session.setting("PYTHON_CONNECTOR_QUERY_RESULT_FORMAT") or "ARROW").upper()
        data, self.chunks = data_of(outcome, arrow=chosen.startswith("ARROW"))
        if self.chunks:
            url = f"{self.address}/chunks/{self.query_id}"
            data["chunks"] = [
                {
                    "url": f"{url}/{place}",
                    "rowCount": chunk.rows,
                    "uncompressedSize": len(chunk.content),
                    "compressedSize": len(chunk.content),
                }
                for place, chunk in enumerate(self.chunks)
            ]
            data["chunkHeaders"] = {"x-fake": self.query_id}
        data |= {
            "queryId": self.query_id,
            "sqlState": "00000",
            "finalDatabaseName": session.database,
            "finalSchemaName": session.schema,
            "finalWarehouseName": session.facts.warehouse,
            "finalRoleName": session.facts.role,
        }
        return {"data": data, "code": None, "message": None, "success": True}

    def monitored(self) -> dict[str, Any]:
        """What monitoring tells of the query."""
        entry = {
            "id": self.query_id,
            "status": self.status,
            "state": self.status,
            "sqlText": self.sql,
            "startTime": self.started_ms,
            "endTime": self.ended_ms,
            "totalDuration": max(0, self.ended_ms - self.started_ms),
            "sessionId": self.session.number,
        }
        if self.status == "FAILED_WITH_ERROR":
            entry |= {"errorCode": self.reply["code"], "errorMessage": self.reply["message"]}
        return entry


class Jobs:
    """The latest jobs, by query id and by request id."""

    def __init__(self) -> None:
        self._by_query: dict[str, Job] = {}
        self._by_request: dict[str, Job] = {}

    def by_query(self, query_id: str) -> Job | None:
        return self._by_query.get(query_id)

    def by_request(self, request_id: str) -> Job | None:
        return self._by_request.get(request_id)

    def start(self, job: Job, execute: Callable[[Job], Outcome]) -> None:
        for old in [job for job in list(self._by_query.values())[:-_KEPT] if job.reply]:
            del self._by_query[old.query_id]
            self._by_request.pop(old.record.request_id, None)
        self._by_query[job.query_id] = job
        self._by_request[job.record.request_id] = job
        job.task = asyncio.create_task(job.run(execute))

    def stop_all(self) -> list[asyncio.Task[None]]:
        """Stop what runs; returns what is to be waited for."""
        for job in self._by_query.values():
            job.stop(cancelled())
        return [job.task for job in self._by_query.values() if job.task and not job.task.done()]


def failed(error: SnowflakeError, query_id: str | None = None) -> dict[str, Any]:
    """A reply that says what is wrong."""
    code = f"{error.code:06d}"
    data = {"errorCode": code, "sqlState": error.sqlstate, "queryId": query_id, "internalError": False}
    return {"data": data, "code": code, "message": error.message, "success": False}
