"""The server's errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snowledger_queue import StateError

if TYPE_CHECKING:
    from pathlib import Path

    from snowledger_queue import QueueError


class ServerError(Exception):
    """The server could not do what was asked."""

    transient = False
    """Whether the same call may succeed later without anybody changing anything."""


class InvalidArgumentError(ServerError):
    """A tool was called with a wrong argument; nothing was stored.

    ``field`` names the argument, ``problem`` says what was wrong and what is accepted.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class UnexpectedError(ServerError):
    """The server failed in a way nobody foresaw; whether the event was stored is unknown.

    ``reference`` is what its log line carries too; nothing else of the cause is told to the client.
    """

    def __init__(self, reference: str) -> None:
        super().__init__(f"snowledger failed (reference {reference} in its log)")


class TimeLimitError(UnexpectedError):
    """A call took too long and was ended; whether the event was stored is unknown."""

    def __init__(self, seconds: float) -> None:
        ServerError.__init__(self, f"the call was ended after {seconds:g} s")


class TicketNotFoundError(ServerError):
    """No ticket of this customer has the id: it is unknown, another's, or no id, and the answer is the same."""

    def __init__(self) -> None:
        super().__init__(
            "ticket_id: ticket not found; submit_query returns the id, and get_context lists the last ones"
        )


class NotAllowedError(ServerError):
    """The customer does not exist for this identity: not found or not allowed, the answer is the same."""

    def __init__(self) -> None:
        super().__init__("customer_id: not found or not allowed; leave it out to use your own customer")


class TokenError(ServerError):
    """A token cannot be so; ``field`` names what, ``problem`` says what was wrong and what is accepted."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class TokenFileError(ServerError):
    """The file of tokens cannot be used as it is. A server then lets nobody in."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}")


class UnprotectedError(ServerError):
    """Other machines could call a server that asks nobody for a token; it does not start."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} can be reached by other machines, and there is no token; make one with 'snowledger token add NAME "
            "--customer ID', or serve this machine alone: listen on 127.0.0.1, under no other name"
        )


def told(error: ServerError | QueueError) -> str:
    """What a client is told of the error. Where the spool lies, and what the system said of it, is for the log."""
    if isinstance(error, StateError):
        return (
            "what is known of queries cannot be used now; if no uploader runs, start one with `snowledger upload`, and "
            "see the server's log"
        )
    return str(error)
