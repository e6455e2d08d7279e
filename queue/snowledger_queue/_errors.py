"""The queue's errors: one base, and for each whether a retry can help."""

from __future__ import annotations

_MAX_FIELD_CHARACTERS = 200
"""Enough of a dotted path to find the member."""


class QueueError(Exception):
    """The queue could not do what was asked."""

    transient = False
    """Whether the same call may succeed later without anybody changing anything."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class InvalidEventError(QueueError):
    """The event breaks a rule of the envelope; nothing was written.

    ``field`` names the member (dotted for a member of ``feature_json``), ``problem`` says what was wrong
    and what is accepted.
    """

    def __init__(self, field: str, problem: str) -> None:
        # A member's name comes from the caller and may hold anything; an error must stay printable and short.
        self.field = (field if field.isprintable() else ascii(field)[1:-1])[:_MAX_FIELD_CHARACTERS]
        super().__init__(f"{self.field}: {problem}")
        self.problem = problem


class QueueWriteError(QueueError):
    """The event is not on stable storage, so it was not acknowledged; the same call may be repeated.

    Raised by an append when the write or the flush failed. Its ``__cause__`` is the ``OSError``.
    """

    transient = True


class UncertainWriteError(QueueWriteError):
    """The event was not acknowledged, but may be stored, or be so later.

    With the same ``activity_id`` (that of the same idempotency key) a retry is still one event. Raised when the disk
    took too long, or failed in a way that leaves it open what it holds.
    """


class QueueClosedError(QueueError):
    """The queue is shutting down and takes no more events."""

    transient = True


class QueueFullError(QueueError):
    """Too much waits to be loaded, or the disk is nearly full; nothing was written.

    ``retry_after_s`` says when to come back: seconds, at least 1.
    """

    transient = True

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SpoolError(QueueError):
    """The spool folder cannot be used as it is: wrong permissions, unknown format, not writable."""


class StateError(QueueError):
    """``state.db``, or the kill switch, cannot be used. Its ``__cause__`` is what SQLite or the system said."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class KillSwitchError(QueueError):
    """The kill switch is on, so queries are refused until an operator turns it off; ``reason`` is why it is on."""

    def __init__(self, reason: str, since: str | None) -> None:
        how_long = "" if since is None else f" since {since}"
        super().__init__(f"the kill switch is on{how_long}: {reason}; no query is taken until it is turned off")
        self.reason = reason


class TooManyTicketsError(QueueError):
    """A customer has as many unfinished queries as it may have; one that ends makes room."""

    transient = True


class UnsafeFileError(QueueError):
    """A file of the spool is not a plain file of ours (a link, a FIFO, a second name); it was not touched."""


class LockHeldError(QueueError):
    """Another live process holds the lock.

    ``holder`` is what that process wrote into the lock file (``{}`` when it cannot be read).
    """

    transient = True

    def __init__(self, message: str, holder: dict[str, object]) -> None:
        super().__init__(message)
        self.holder = holder
