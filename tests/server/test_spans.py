"""OpenTelemetry: the SDK's spans are made where somebody collects them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from tests.server.server_samples import connected

from snowledger_queue import Spool


class Collector(trace.TracerProvider, trace.Tracer):
    """Keeps the names of spans."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def get_tracer(self, *_args: Any, **_more: Any) -> trace.Tracer:
        return self

    def start_span(self, name: str, *_args: Any, **_more: Any) -> trace.Span:
        self.names.append(name)
        return trace.INVALID_SPAN

    @contextmanager
    def start_as_current_span(self, name: str, *_args: Any, **_more: Any) -> Iterator[trace.Span]:  # type: ignore[override]
        yield self.start_span(name)


@contextmanager
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sequence[str]]:
    collector = Collector()
    with monkeypatch.context() as patched:
        patched.setattr(trace, "_TRACER_PROVIDER", collector)
        yield collector.names


async def test_a_call_is_a_span_for_whoever_collects_them(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    with collected(monkeypatch) as names:
        async with connected(spool, "auto") as server:
            await server.ok("get_context", {})
    assert "tools/call get_context" in names
