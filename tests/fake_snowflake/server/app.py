"""The addresses that Snowflake's drivers speak with."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from tests.fake_snowflake.server import login
from tests.fake_snowflake.server.account import Account
from tests.fake_snowflake.server.errors import SnowflakeError, cancelled
from tests.fake_snowflake.server.faults import Fault
from tests.fake_snowflake.server.jobs import Job, failed
from tests.fake_snowflake.server.protocol import reset_connection
from tests.fake_snowflake.server.recorder import Record
from tests.fake_snowflake.server.results import Outcome
from tests.fake_snowflake.server.sessions import Session
from tests.fake_snowflake.server.stage import BUCKET
from tests.fake_snowflake.server.statements import describe, execute

Handler = Callable[[Request], Awaitable[Response]]


def routes(account: Account) -> list[Route]:
    api = Api(account)
    return [
        Route("/session/v1/login-request", api.log_in, methods=["POST"]),
        Route("/session/token-request", api.renew, methods=["POST"]),
        Route("/session/heartbeat", api.heartbeat, methods=["POST"]),
        Route("/session", api.log_out, methods=["POST"]),
        Route("/queries/v1/query-request", api.query, methods=["POST"]),
        Route("/queries/v1/abort-request", api.abort_request, methods=["POST"]),
        Route("/queries/{query_id}/result", api.result, methods=["GET"]),
        Route("/queries/{query_id}/abort-request", api.abort_query, methods=["POST"]),
        Route("/chunks/{query_id}/{place:int}", api.chunk, methods=["GET"]),
        Route("/monitoring/queries/{query_id}", api.monitor, methods=["GET"]),
        Route("/telemetry/send", api.telemetry, methods=["POST"]),
        Route(f"/{BUCKET}/{{key:path}}", api.staged_file, methods=["GET", "HEAD", "PUT"]),
    ]


class Api:
    def __init__(self, account: Account) -> None:
        self._account = account

    async def log_in(self, request: Request) -> Response:
        data = (await _json(request))["data"]

        async def answer() -> Response:
            names = {name: request.query_params.get(f"{name}Name") for name in ("database", "schema")}
            names |= {"role": request.query_params.get("roleName"), "warehouse": request.query_params.get("warehouse")}
            return _success(login.log_in(self._account, data, names))

        secondary = f" SECONDARY ROLES {data['SECONDARY_ROLES']}" if "SECONDARY_ROLES" in data else ""
        return await self._guarded(request, f"LOGIN {data.get('LOGIN_NAME')}{secondary}", answer)

    async def renew(self, request: Request) -> Response:
        async def answer() -> Response:
            return _success(login.renew(self._account, _token(request)))

        return await self._guarded(request, "RENEW", answer)

    async def heartbeat(self, request: Request) -> Response:
        async def answer() -> Response:
            self._session(request)
            return _success(None)

        return await self._guarded(request, "HEARTBEAT", answer)

    async def log_out(self, request: Request) -> Response:
        async def answer() -> Response:
            session = self._session(request)
            if request.query_params.get("delete"):
                await login.log_out(self._account, session)
            return _success(None)

        return await self._guarded(request, "LOGOUT", answer)

    async def query(self, request: Request) -> Response:
        body = await _json(request)
        stall = Fault("", "stall", seconds=0)

        async def answer() -> Response:
            job = self._job(request, body, stall.seconds)
            if body.get("asyncExec"):
                return _in_progress(job, "333334")
            return await _reply(job, self._account.patience_s)

        return await self._guarded(request, body["sqlText"], answer, stall)

    def _job(self, request: Request, body: dict[str, Any], delay_s: float) -> Job:
        """The job of this request: the one that it has started before, if it is sent again."""
        account, session = self._account, self._session(request)
        request_id = request.query_params.get("requestId", "")
        if job := account.jobs.by_request(request_id):
            job.record.attempts += 1
            return job
        parameters = body.get("parameters") or {}
        tag = parameters.get("QUERY_TAG", session.parameters.get("QUERY_TAG"))
        record = Record(
            body["sqlText"],
            tag,
            session.number,
            request_id,
            asynchronous=bool(body.get("asyncExec")),
            described=bool(body.get("describeOnly")),
        )
        address = f"{request.url.scheme}://{request.url.netloc}"
        job = Job(session, record, parameters, address=address, delay_s=delay_s)
        account.recorder.add(record)

        def work(running: Job) -> Outcome:
            return describe(running) if record.described else execute(running, body.get("bindings"))

        account.jobs.start(job, work)
        return job

    async def result(self, request: Request) -> Response:
        query_id = request.path_params["query_id"]

        async def answer() -> Response:
            self._session(request)
            job = self._account.jobs.by_query(query_id)
            if not job:
                raise SnowflakeError(709, f"Statement {query_id} not found", "02000")
            return await _reply(job, self._account.patience_s)

        return await self._guarded(request, f"RESULT {query_id}", answer)

    async def chunk(self, request: Request) -> Response:
        query_id, place = request.path_params["query_id"], request.path_params["place"]

        async def answer() -> Response:
            job = self._account.jobs.by_query(query_id)
            if not job or place >= len(job.chunks):
                return Response(status_code=404)
            return Response(job.chunks[place].content, media_type="application/octet-stream")

        return await self._guarded(request, f"CHUNK {query_id}/{place}", answer)

    async def monitor(self, request: Request) -> Response:
        query_id = request.path_params["query_id"]

        async def answer() -> Response:
            self._session(request)
            job = self._account.jobs.by_query(query_id)
            return _success({"queries": [job.monitored()] if job else []})

        return await self._guarded(request, f"MONITOR {query_id}", answer)

    async def abort_request(self, request: Request) -> Response:
        body = await _json(request)
        return await self._abort(request, self._account.jobs.by_request(str(body.get("requestId"))))

    async def abort_query(self, request: Request) -> Response:
        return await self._abort(request, self._account.jobs.by_query(request.path_params["query_id"]))

    async def _abort(self, request: Request, job: Job | None) -> Response:
        async def answer() -> Response:
            self._session(request)
            if not job or not job.stop(cancelled()):
                raise SnowflakeError(605, "Identified SQL statement is not currently executing.", "02000")
            return _success(None)

        return await self._guarded(request, "ABORT", answer)

    async def telemetry(self, _: Request) -> Response:
        return _success("Log Received")

    async def staged_file(self, request: Request) -> Response:
        """What the driver takes for a bucket of Google's."""
        key, stages = request.path_params["key"], self._account.stages
        name = {"GET": "DOWNLOAD", "HEAD": "PROBE", "PUT": "UPLOAD"}[request.method]

        async def answer() -> Response:
            if request.method == "PUT":
                told = {name: value for name, value in request.headers.items() if name.startswith("x-goog-meta-")}
                stored = await asyncio.to_thread(stages.store, key, await request.body(), told)
                return Response(status_code=200 if stored else 400)
            path = stages.local(key)
            if not path or not path.is_file():
                return Response(status_code=404)
            return FileResponse(path, headers=stages.headers.get(path))

        return await self._guarded(request, f"{name} {key}", answer)

    def _session(self, request: Request) -> Session:
        return login.session_of(self._account, _token(request))

    async def _guarded(
        self, request: Request, text: str, answer: Callable[[], Awaitable[Response]], stall: Fault | None = None
    ) -> Response:
        """Answer a request, with the fault that was ordered for it."""
        account = self._account
        account.recorder.add_request(text)
        fault = account.faults.take(text)
        try:
            if fault and fault.when == "before":
                if fault.kind == "stall" and stall:
                    # The statement waits on the server and can be aborted there.
                    stall.seconds = fault.seconds
                elif response := await self._strike(request, fault):
                    return response
            response = await answer()
            if fault and fault.when == "after":
                return await self._strike(request, fault) or response
            return response
        except SnowflakeError as error:
            return JSONResponse(failed(error))

    async def _strike(self, request: Request, fault: Fault) -> Response | None:
        match fault.kind:
            case "403" | "429" | "503":
                return Response(status_code=int(fault.kind))
            case "reset":
                reset_connection(tuple(request.scope["client"]))
                return Response(status_code=503)
            case "stall":
                await asyncio.sleep(fault.seconds)
                return None
            case "expired":
                login.expire(self._account, self._session(request))
                raise login.session_expired()
            case "gone":
                session = self._session(request)
                await login.log_out(self._account, session)
                self._session(request)
            case "wrong_password":
                raise login.wrong_password()
            case "error":
                raise SnowflakeError(fault.code, fault.message or "An error on order.")
        return None


async def _json(request: Request) -> dict[str, Any]:
    body = await request.body()
    if request.headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    loaded: dict[str, Any] = json.loads(body)
    return loaded


def _token(request: Request) -> str | None:
    """The token in `Authorization: Snowflake Token="…"`."""
    _, _, quoted = request.headers.get("authorization", "").partition("=")
    return quoted.strip('"') or None


def _success(data: Any) -> Response:
    return JSONResponse({"data": data, "code": None, "message": None, "success": True})


async def _reply(job: Job, patience_s: float) -> Response:
    if job.task:
        await asyncio.wait({job.task}, timeout=patience_s)
    return JSONResponse(job.reply) if job.reply else _in_progress(job, "333333")


def _in_progress(job: Job, code: str) -> Response:
    data = {
        "queryId": job.query_id,
        "getResultUrl": f"/queries/{job.query_id}/result",
        "queryAbortsAfterSecs": 300,
        "progressDesc": None,
    }
    return JSONResponse({"data": data, "code": code, "message": "Query execution in progress.", "success": True})
