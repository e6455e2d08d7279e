"""`snowledger serve` on a disk that never answers: who asks is told, everything else goes on, and it ends in time."""

import json
import subprocess
import sys
import time

import pytest
from tests.acceptance.ledger import Ledger
from tests.server.server_samples import EVENT, INSIGHT
from tests.server.test_serve_process import HANDSHAKE, Wire

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="standard streams are POSIX")

HUNG = """
import threading
import snowledger_queue._platform, snowledger_queue._writer
from snowledger.__main__ import main
snowledger_queue._platform.sync_data = lambda _: threading.Event().wait()
snowledger_queue._writer.ANSWER_S = 0.3
main()
"""
"""The command, with a flush that never returns and less patience."""


def test_on_a_disk_that_never_answers_calls_are_told_others_go_on_and_it_ends_in_time(ledger: Ledger) -> None:
    assert ledger.spool.home.exists()  # made before the disk hangs
    with (ledger.folder / "stderr.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", HUNG, "serve", "--no-uploader"],
            env=ledger.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,
        )
    with process:
        try:
            wire = object.__new__(Wire)
            wire.process = process
            wire.send(0, "initialize", HANDSHAKE)
            wire.receive()
            wire.call(1, "log_event", {**EVENT, "idempotency_key": "k"})
            wire.call(2, "get_context", {"customer_id": "acme"})
            assert wire.receive()["id"] == 2, "who only reads does not wait"
            told = wire.receive()["result"]
            assert told["structuredContent"]["retryable"]
            assert told["content"][0]["text"].endswith(
                "Whether anything was stored is not known. Repeat the call only with the idempotency_key it had."
            )
            wire.call(3, "log_insight", INSIGHT)
            assert "Nothing was acknowledged. Repeat the call" in json.dumps(wire.receive())
            wire.call(4, "log_event", EVENT)  # under way when it ends
            began = time.monotonic()
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(10) == 0, ledger.errors
            assert time.monotonic() - began < 1.5  # 1 s, and what a busy machine adds
        finally:
            process.kill()
    assert "Traceback" not in ledger.errors
    assert len(ledger.spool.active_segments()) == 1
    assert "does not answer; the active segment is left for recovery" in ledger.errors
