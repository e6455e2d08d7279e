"""Customers of one server, each with something of its own, and what they can ask for."""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from tests.http.http_server import MODERN, HttpServer, call, request
from tests.server.query_samples import finish, write_artifact
from tests.server.server_samples import EVENT, INSIGHT

from snowledger_queue import RunnerTickets
from snowledger_server import add_token, revoke_token

HOURS = {"acme": "21h", "beta": "22h", "gama": "23h"}
"""What each asks its query about, so that their hashes differ."""

WIDE: dict[str, Any] = {"template": "active_customers", "params": {"since": "8d"}}
"""Reads the rows of all customers that a token allows."""


@dataclass
class Person:
    """Names of equal length, so that an answer may repeat what was asked for and still be the same."""

    customer: str
    token: str = ""
    done: str = "0" * 32
    """The ticket of a query that has ended, with an artifact."""
    waiting: str = "f" * 32
    """The ticket of one that waits."""
    query_hash: str = "0123456789abcdef" * 4
    name: str = ""
    """Other than the customer's, of a second token of one customer."""

    @property
    def mark(self) -> str:
        """In all that it has."""
        return f"of-{self.name or self.customer}"


NOBODY = Person("nope")


def new_token(file: Path, name: str, customer: str | None, *allowed: str, days: float = 1, **more: Any) -> str:
    now = datetime.now(UTC)
    options = {"scope": "mcp", **more}
    return add_token(
        file, name, customer=customer, allowed=allowed, expires=now + timedelta(days=days), now=now, **options
    )[1]


def credentials(file: Path) -> dict[str, str | None]:
    """What strangers to the tools send as ``Authorization``; None: nothing."""
    good = new_token(file, "good", "acme")
    revoked = new_token(file, "revoked", "acme")
    revoke_token(file, "revoked")
    return {
        "none": None,
        "empty": "",
        "malformed": "Bearer of good news",
        "wrong secret": f"Bearer {good[:-9]}000000000",
        "unknown id": f"Bearer slt_{'0' * 12}{good[16:]}",
        "another scheme": f"Basic {good}",
        "no scheme": good,
        "expired": f"Bearer {new_token(file, 'expired', 'acme', days=-0.001)}",
        "revoked": f"Bearer {revoked}",
        "metrics": f"Bearer {new_token(file, 'metrics', None, scope='metrics')}",
    }


class Wire:
    """One client with a token, in one era."""

    def __init__(self, server: HttpServer, client: httpx2.Client, era: str, token: str) -> None:
        self._server = server
        self._client = client
        self._era = era
        self._authorization = f"Bearer {token}"

    def call(self, tool: str, arguments: dict[str, Any]) -> httpx2.Response:
        return call(self._client, self._server.mcp, self._era, tool, arguments, authorization=self._authorization)

    def ask(self, method: str, **params: Any) -> httpx2.Response:
        headers, body = request(method, self._era, **params)
        return self._client.post(self._server.mcp, headers={**headers, "authorization": self._authorization}, json=body)

    def read(self, uri: str) -> httpx2.Response:
        return self.ask("resources/read", uri=uri)

    def ok(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The structured answer of a call that works."""
        result = self.call(tool, arguments).json()["result"]
        assert not result["isError"], result
        return dict(result["structuredContent"])


def settle(server: HttpServer, client: httpx2.Client) -> dict[str, Person]:
    """Three customers: acme and beta, and gama, who may read and write for acme too; and a wider token of acme."""
    file = server.ledger.home / "tokens.json"
    people = {name: Person(name, new_token(file, name, name, *(["acme"] if name == "gama" else []))) for name in HOURS}
    with closing(RunnerTickets(server.ledger.spool)) as runner:
        for person in people.values():
            wire = Wire(server, client, MODERN, person.token)
            ticket = wire.ok(
                "submit_query", {"template": "activity_counts", "params": {"since": HOURS[person.customer]}}
            )
            person.done, person.query_hash = ticket["ticket_id"], ticket["query_hash"]
            finish(runner, person.done, rows=[[person.mark, 1]])
            write_artifact(server.ledger.spool, person.done, person.mark.encode())
    wide = _wider(server, client, file)
    for person in people.values():
        wire = Wire(server, client, MODERN, person.token)
        person.waiting = wire.ok("submit_query", {"template": "errors"})["ticket_id"]
        wire.ok("log_event", TOOLS["log_event"].own(person))
        wire.ok("log_insight", TOOLS["log_insight"].own(person))
    return people | {"wide": wide}


def _wider(server: HttpServer, client: httpx2.Client, file: Path) -> Person:
    """A second token of acme, for which queries may read beta too. Its queries do."""
    person = Person("acme", new_token(file, "wide", "acme", "beta"), name="wide")
    wire = Wire(server, client, MODERN, person.token)
    ticket = wire.ok("submit_query", WIDE)
    person.done, person.query_hash = ticket["ticket_id"], ticket["query_hash"]
    with closing(RunnerTickets(server.ledger.spool)) as runner:
        finish(runner, person.done, rows=[[person.mark, 1]])
    write_artifact(server.ledger.spool, person.done, person.mark.encode())
    person.waiting = wire.ok("submit_query", {"template": "active_customers", "params": {"since": "9d"}})["ticket_id"]
    return person


@dataclass(frozen=True)
class Row:
    """How a tool is tried: with what is one's own, and about somebody."""

    own: Callable[[Person], dict[str, Any]]
    about: Callable[[Person], dict[str, Any]]


TOOLS = {
    "get_context": Row(lambda _me: {}, lambda whom: {"customer_id": whom.customer}),
    "log_event": Row(
        lambda me: {**EVENT, "feature_json": {"of": me.mark}, "customer_id": me.customer},
        lambda whom: {**EVENT, "customer_id": whom.customer},
    ),
    "log_insight": Row(
        lambda me: {**INSIGHT, "subject": me.mark, "provenance_query_hash": me.query_hash},
        lambda whom: {**INSIGHT, "customer_id": whom.customer},
    ),
    "submit_query": Row(
        lambda _me: {"template": "activity_counts"},
        lambda whom: {"template": "activity_counts", "params": {"customer": whom.customer}},
    ),
    "get_result": Row(lambda me: {"ticket_id": me.done}, lambda whom: {"ticket_id": whom.done}),
    "cancel_query": Row(lambda me: {"ticket_id": me.done}, lambda whom: {"ticket_id": whom.waiting}),
}

RESOURCES: dict[str, Callable[[Person], str]] = {
    "snowledger://context/{customer}": lambda whom: f"snowledger://context/{whom.customer}",
    "snowledger://tickets/{ticket_id}": lambda whom: f"snowledger://tickets/{whom.done}",
    "snowledger://artifacts/{ticket_id}": lambda whom: f"snowledger://artifacts/{whom.done}",
}


def same_but_for(text: bytes, whom: Person) -> bytes:
    """The answer about somebody, as it would be about nobody."""
    for name in ("customer", "done", "waiting"):
        text = text.replace(getattr(whom, name).encode(), getattr(NOBODY, name).encode())
    return text


def shown(response: httpx2.Response) -> tuple[int, dict[str, str], Any]:
    """All of an answer but when it was given."""
    headers = {name: value for name, value in response.headers.items() if name != "date"}
    return (
        response.status_code,
        headers,
        json.loads(response.content) if response.content[:1] == b"{" else response.content,
    )
