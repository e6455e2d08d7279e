"""Whom the code that runs now works for, so that a log record can say it.

A task and the worker threads that it starts share what was set; one task does not see another's.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_current: ContextVar[str | None] = ContextVar("correlation id", default=None)


def correlation_id() -> str | None:
    """The tag of the call, query or batch at work (``cdesk_`` and 8 hex digits); None outside of all."""
    return _current.get()


@contextmanager
def correlated(tag: str) -> Iterator[None]:
    """Work for the call, query or batch that has this tag."""
    token = _current.set(tag)
    try:
        yield
    finally:
        _current.reset(token)
