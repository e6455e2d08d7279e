"""The server's errors."""

from __future__ import annotations


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
