"""A client on a bare pipe: one server process, calls one after another, many at once or at a steady rate."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import mcp_types as types
import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

PIPE_BYTES = 128 * 1024
"""A whole answer is read at once."""

MODERN, LEGACY = "2026-07-28", "2025-11-25"


class StdioClient:
    """One server process, one call at a time."""

    def __init__(self, era: str, *command: str, environment: dict[str, str]) -> None:
        self._meta: dict[str, Any] = {}
        self._next_id = 0
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=PIPE_BYTES,
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
        return self.timed(method, **params)[1]

    def timed(self, method: str, **params: Any) -> tuple[float, dict[str, Any]]:
        """Send one request; return the milliseconds until its answer was there, and the answer."""
        self._next_id += 1
        if self._meta:
            params["_meta"] = self._meta
        assert self._process.stdout is not None
        begun = time.perf_counter()
        self._send({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        line = self._process.stdout.readline()
        elapsed_ms = (time.perf_counter() - begun) * 1000
        answer: dict[str, Any] = orjson.loads(line)
        if answer.get("id") != self._next_id or "error" in answer or answer["result"].get("isError"):
            raise RuntimeError(answer)
        return elapsed_ms, answer

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def open_loop(self, calls: Iterable[dict[str, Any]], rate: float) -> list[tuple[float, dict[str, Any]]]:
        """Call tools at a steady rate, however long the answers take.

        The milliseconds until each answer count from when its call was due; in the order of the calls.
        """
        requests = list(calls)
        first = self._next_id + 1
        self._next_id += len(requests)
        begun = time.perf_counter() + 0.01
        answers: list[tuple[float, dict[str, Any]]] = []
        reader = threading.Thread(target=self._collect, args=(answers, len(requests), first, begun, rate))
        reader.start()
        for number, call in enumerate(requests):
            time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            self._send({"jsonrpc": "2.0", "id": first + number, "method": "tools/call", "params": call})
        reader.join()
        return sorted(answers, key=lambda answer: answer[1]["id"])

    def _collect(
        self, answers: list[tuple[float, dict[str, Any]]], count: int, first: int, begun: float, rate: float
    ) -> None:
        assert self._process.stdout is not None
        for _ in range(count):
            line = self._process.stdout.readline()
            now = time.perf_counter()
            answer: dict[str, Any] = orjson.loads(line)
            answers.append(((now - begun - (answer["id"] - first) / rate) * 1000, answer))

    def pipeline(self, calls: Iterable[dict[str, Any]], in_flight: int = 64) -> None:
        """Call tools, so many at once, until all are answered."""
        assert self._process.stdout is not None
        waiting = 0
        for call in calls:
            self._next_id += 1
            self._send({"jsonrpc": "2.0", "id": self._next_id, "method": "tools/call", "params": call})
            waiting += 1
            if waiting == in_flight:
                self._answered()
                waiting -= 1
        for _ in range(waiting):
            self._answered()

    def _answered(self) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if b'"isError":false' not in line:
            raise RuntimeError(line[:500])

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
