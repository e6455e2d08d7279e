"""The addresses that tests steer the server with."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.fake_snowflake.server import login
from tests.fake_snowflake.server.account import Account
from tests.fake_snowflake.server.faults import Fault

Operation = Callable[[Any], Awaitable[Any]]


def routes(account: Account) -> list[Route]:
    """`POST /fake/<operation>` with JSON in and out."""
    operations = Operations(account)
    names = [name for name in vars(Operations) if not name.startswith("_")]
    return [Route(f"/fake/{name}", _endpoint(getattr(operations, name)), methods=["POST"]) for name in names]


class Operations:
    """What tests can ask for; each takes the JSON of the request and returns that of the reply."""

    def __init__(self, account: Account) -> None:
        self._account = account

    async def clear(self, _: Any) -> None:
        await self._account.reset()

    async def forget(self, _: Any) -> None:
        self._account.recorder.clear()

    async def statements(self, _: Any) -> Any:
        return self._account.recorder.statements()

    async def requests(self, _: Any) -> Any:
        return self._account.recorder.requests()

    async def fault(self, body: Any) -> None:
        self._account.faults.add(Fault(**body))

    async def poison(self, body: Any) -> None:
        self._account.faults.add_poison(body["match"])

    async def heal(self, _: Any) -> None:
        self._account.faults.clear()

    async def faults_left(self, _: Any) -> int:
        return self._account.faults.unused()

    async def allow(self, body: Any) -> None:
        user = body["user"].upper()
        if body.get("secret"):
            self._account.secrets.setdefault(user, set()).add(body["secret"])
        if body.get("public_key"):
            self._account.keys[user] = body["public_key"]

    async def patience(self, body: Any) -> None:
        self._account.patience_s = body["seconds"]

    async def expire(self, _: Any) -> None:
        for session in list(self._account.sessions.values()):
            login.expire(self._account, session)

    async def sessions(self, _: Any) -> int:
        return len(self._account.everybody())

    async def sql(self, body: Any) -> Any:
        with self._account.own_connection() as connection:
            return connection.execute(body["sql"]).fetchall()


def _endpoint(operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        body = await request.body()
        answer = await operation(json.loads(body) if body else None)
        return Response(json.dumps(answer, default=str), media_type="application/json")

    return endpoint
