"""Starts the fake Snowflake server, and steers it from tests."""

import json
import select
import subprocess
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

ROOT = Path(__file__).parents[2]
USER = "loader"
PASSWORD = "secret"  # noqa: S105 - the fake's own

_START_S = 20.0  # it takes one or two; a busy machine has more

FaultKind = Literal["403", "429", "503", "reset", "stall", "expired", "gone", "wrong_password", "error"]


@dataclass(frozen=True)
class Statement:
    """A statement that the server was sent."""

    sql: str
    query_tag: str | None
    session: int
    request_id: str
    query_id: str
    asynchronous: bool
    # Nothing was done: the client only asked what columns the result would have.
    described: bool
    # How often the client has sent this very request.
    attempts: int
    # False: the server could only record it.
    executed: bool
    # Snowflake's code, if it failed.
    error: int | None


class FakeSnowflake:
    """A server process of its own."""

    def __init__(self) -> None:
        python = ROOT / ".venv-fake" / "bin" / "python"
        assert python.exists(), "the fake Snowflake server has no environment yet: run `make fake`"
        self._process = subprocess.Popen(
            [python, "-m", "tests.fake_snowflake.server.main"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = 0

    def wait(self) -> None:
        """Wait until the server listens."""
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], _START_S)
        line = self._process.stdout.readline() if ready else ""
        assert line, "the fake Snowflake server does not start"
        self.port = int(line)
        self.clear()

    def stop(self) -> None:
        """End the process."""
        try:
            self._process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Self:
        self.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- Connecting -----------------------------------------------------------------------------------------------

    def connection_options(self, **options: Any) -> dict[str, Any]:
        """Arguments of `snowflake.connector.connect`; more are added, those that are None are left out."""
        # Left to its default the connector warns that the default will change.
        return {"enable_server_session_keep_alive_auto_detection": False, **self._entry(options)}

    def write_connections_toml(self, folder: Path, name: str = "fake", **options: Any) -> Path:
        """Write a connections.toml with an entry for this server; SNOWFLAKE_HOME shall be the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in self._entry(options).items())]
        path = folder / "connections.toml"
        path.write_text("\n".join(lines) + "\n")
        # The connector refuses a file that others can write, and warns of one that others can read.
        path.chmod(0o600)
        return path

    def _entry(self, options: dict[str, Any]) -> dict[str, Any]:
        given = {
            "account": "fake",
            "user": USER,
            "password": PASSWORD,
            "host": "127.0.0.1",
            "port": self.port,
            "protocol": "http",
            **options,
        }
        return {name: value for name, value in given.items() if value is not None}

    def allow(self, user: str, *, secret: str | None = None, public_key: str | None = None) -> None:
        """Let a user in with a password or token, or with the private key that belongs to a public key (PEM)."""
        self._call("allow", user=user, secret=secret, public_key=public_key)

    # --- What happened ------------------------------------------------------------------------------------------------

    def statements(self) -> list[Statement]:
        """What was sent since the last `clear` or `forget`, in order."""
        return [Statement(**record) for record in self._call("statements")]

    def unsupported(self) -> list[Statement]:
        """Statements that succeeded without anything being done: grants, roles, policies and the like."""
        return [statement for statement in self.statements() if not statement.executed]

    def requests(self) -> list[str]:
        """All requests: statements by their text, others as `LOGIN loader`, `UPLOAD …`, `ABORT` and so on."""
        answer: list[str] = self._call("requests")
        return answer

    def sql(self, text: str) -> list[list[Any]]:
        """Run SQL of DuckDB's on what is committed; a table is named "DATABASE"."SCHEMA"."TABLE"."""
        answer: list[list[Any]] = self._call("sql", sql=text)
        return answer

    def sessions(self) -> int:
        """How many sessions are open."""
        answer: int = self._call("sessions")
        return answer

    # --- What shall go wrong ------------------------------------------------------------------------------------------

    def fault(
        self,
        match: str,
        kind: FaultKind,
        times: int = 1,
        when: Literal["before", "after"] = "before",
        *,
        seconds: float = 0.0,
        code: int = 0,
        message: str = "",
    ) -> None:
        """Order a fault for the next requests whose text (see `requests`) a pattern is found in.

        Args:
            match: regular expression, upper and lower case alike.
            kind: "403", "429", "503": that status · "reset": the connection is cut ·
                "stall": nothing happens for `seconds` · "expired": the session token is refused until it is renewed ·
                "gone": the session has ended · "wrong_password" · "error": Snowflake's error `code` with `message`.
            times: how many requests it befalls; each attempt of a request counts.
            when: "before" the request is carried out, or "after", so that only the reply is lost.
            seconds: of a stall.
            code: of an error.
            message: of an error.
        """
        self._call("fault", match=match, kind=kind, times=times, when=when, seconds=seconds, code=code, message=message)

    def faults_left(self) -> int:
        """How often ordered faults have not come up yet."""
        answer: int = self._call("faults_left")
        return answer

    def poison(self, match: str) -> None:
        """Have every COPY fail that reads a line in which a pattern (RE2) is found."""
        self._call("poison", match=match)

    def heal(self) -> None:
        """Take back all faults and all poison."""
        self._call("heal")

    def expire_tokens(self) -> None:
        """Let the tokens of all sessions expire."""
        self._call("expire")

    def patience(self, seconds: float) -> None:
        """Let a request wait no longer than this for its result, instead of 45 s; the client then has to ask again."""
        self._call("patience", seconds=seconds)

    # --- Starting afresh ----------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Forget the statements and requests so far."""
        self._call("forget")

    def clear(self) -> None:
        """Make the account as new: no database, no stage, no session, no user but `USER`, no fault, no record."""
        self._call("clear")
        self.allow(USER, secret=PASSWORD)

    def _call(self, operation: str, **body: Any) -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", f"/fake/{operation}", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode()
            assert response.status == 200, text
            return json.loads(text)
        finally:
            connection.close()
