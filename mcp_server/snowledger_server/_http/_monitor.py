"""``/healthz`` and ``/readyz``, which anybody may ask, and ``/metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from snowledger_queue.metrics import encoder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from prometheus_client import CollectorRegistry
    from starlette.requests import Request

    from ._refusal import Refusal

_FRESH = {"Cache-Control": "no-store"}


def monitor_routes(
    registry: CollectorRegistry,
    reasons: Callable[[], Awaitable[list[str]]],
    guard: Callable[[Mapping[bytes, bytes]], Refusal | None],
) -> list[Route]:
    """The routes.

    ``reasons`` tells why the server is not ready, in words that anybody may hear; ``guard`` refuses by its headers a
    request for the metrics.
    """
    one_scrape = anyio.CapacityLimiter(1)

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"}, headers=_FRESH)

    async def readyz(_request: Request) -> Response:
        found = await reasons()
        if found:
            return JSONResponse({"status": "not ready", "reasons": found}, 503, _FRESH)
        return JSONResponse({"status": "ready"}, headers=_FRESH)

    async def metrics(request: Request) -> Response:
        refusal = guard(dict(request.headers.raw))
        if refusal is not None:
            headers = {name.decode(): value.decode() for name, value in refusal.headers}
            return PlainTextResponse(f"{refusal.text}\n", refusal.status, headers)
        encode, content_type = encoder(request.headers.get("accept", ""))
        # Off the loop: it lists the queue and asks state.db.
        content = await to_thread.run_sync(encode, registry, limiter=one_scrape)
        return Response(content, headers={**_FRESH, "Content-Type": content_type})

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]
