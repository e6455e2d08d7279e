"""Cutting many events into appends."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

CHUNK_EVENTS = 1000
"""Events that share one flush to stable storage: more are not faster."""

CHUNK_BYTES = 8 * 1024 * 1024
"""An append goes into one segment, whatever that holds then: half a segment's usual size, so that none becomes too
large for a warehouse with little memory."""


def chunks(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in order, at most ``CHUNK_EVENTS`` and, unless one alone has more, ``CHUNK_BYTES`` bytes together."""
    chunk: list[T] = []
    total = 0
    for item in items:
        if chunk and (len(chunk) == CHUNK_EVENTS or total + size(item) > CHUNK_BYTES):
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += size(item)
    if chunk:
        yield chunk
