"""A durable log_event over stdio against a no-op tool on the same transport: ``python bench/latency.py``.

The client is a bare pipe and a JSON parser, so that its own cost does not flatter the ratio. Blocks of calls to both
servers and of bare flushes alternate.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mcp_types as types
import orjson
from bench.harness import make_event, percentile, start

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 100
"""Calls before the other server's turn."""

RATIO_TARGET, ABSOLUTE_TARGET_MS = 2.0, 10.0
MODERN, LEGACY = "2026-07-28", "2025-11-25"


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=4_000, help="calls to each server in each era (default 4000)")


class StdioClient:
    """One server process, one call at a time."""

    def __init__(self, era: str, *command: str, environment: dict[str, str]) -> None:
        self._meta: dict[str, Any] = {}
        self._next_id = 0
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        info = {"name": "bench", "version": "0"}
        if era == LEGACY:
            self.request("initialize", protocolVersion=era, capabilities={}, clientInfo=info)
            self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        else:
            self._meta = {
                types.PROTOCOL_VERSION_META_KEY: era,
                types.CLIENT_INFO_META_KEY: info,
                types.CLIENT_CAPABILITIES_META_KEY: {},
            }

    def request(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one request and wait for its answer."""
        self._next_id += 1
        if self._meta:
            params["_meta"] = self._meta
        self._send({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        assert self._process.stdout is not None
        answer: dict[str, Any] = orjson.loads(self._process.stdout.readline())
        if answer.get("id") != self._next_id or "error" in answer or answer["result"].get("isError"):
            raise RuntimeError(answer)
        return answer

    def close(self) -> None:
        """End the server by the end of its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
        self._process.stdin.flush()


def _calls(client: StdioClient, tool: str, times: int) -> Iterator[float]:
    """Call the tool so often; yield each call's milliseconds."""
    for number in range(times):
        arguments = {
            "activity": "cdesk.tool_called",
            "feature_json": {"tool": "search", "latency_ms": number % 500, "ok": True},
        }
        begun = time.perf_counter()
        client.request("tools/call", name=tool, arguments=arguments)
        yield (time.perf_counter() - begun) * 1000


def _flush(descriptor: int, line: bytes) -> float:
    os.write(descriptor, line)
    begun = time.perf_counter()
    os.fdatasync(descriptor)
    return (time.perf_counter() - begun) * 1000


def _measure(era: str, home: Path, calls: int) -> tuple[list[float], list[float], list[float]]:
    noop = StdioClient(era, "-m", "bench.noop_server", environment={})
    ours = StdioClient(
        era, "-m", "snowledger", "serve", "--no-uploader", environment={"SNOWLEDGER_HOME": str(home / era)}
    )
    descriptor = os.open(home / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    line = make_event(0).line
    floor: list[float] = []
    flush: list[float] = []
    durable: list[float] = []
    try:
        list(_calls(noop, "noop", BLOCK))  # warm both
        list(_calls(ours, "log_event", BLOCK))
        for _ in range(calls // BLOCK):
            for taken in _calls(noop, "noop", BLOCK):
                floor.append(taken)
                # Between calls as well, for a flush after a pause is slower than one in a tight loop.
                flush.append(_flush(descriptor, line))
            durable += _calls(ours, "log_event", BLOCK)
    finally:
        os.close(descriptor)
        noop.close()
        ours.close()
    return floor, flush, durable


def main() -> int:
    report, options = start("Latency of a durable log_event over stdio", _options)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for era in (LEGACY, MODERN):
            floor, flush, durable = _measure(era, Path(folder).resolve(), options.calls)
            limit = RATIO_TARGET * (percentile(floor, 95) + percentile(flush, 95))
            report.row(f"{era}: no-op tool, p50", percentile(floor, 50), "ms")
            report.row(f"{era}: no-op tool, p95", percentile(floor, 95), "ms")
            report.row(f"{era}: one fdatasync, p95", percentile(flush, 95), "ms")
            p95 = percentile(durable, 95)
            report.row(f"{era}: log_event, p50", percentile(durable, 50), "ms")
            report.row(
                f"{era}: log_event, p95",
                p95,
                "ms",
                f"< {ABSOLUTE_TARGET_MS:.0f} ms",
                met=p95 < ABSOLUTE_TARGET_MS,
            )
            report.row(f"{era}: log_event, p99", percentile(durable, 99), "ms")
            ratio = p95 / (percentile(floor, 95) + percentile(flush, 95))
            report.row(f"{era}:   p95 ratio to no-op + fdatasync", ratio, "", f"<= {RATIO_TARGET}", met=p95 <= limit)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
