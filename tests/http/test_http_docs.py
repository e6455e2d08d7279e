"""The examples of docs/http.md, run as they are written."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from tests.http.http_server import HttpServer

PAGE = Path(__file__).parents[2] / "docs" / "http.md"
EXAMPLES = [block for block in re.findall(r"```sh\n(.+?)```", PAGE.read_text(), re.DOTALL) if block.startswith("curl")]


@pytest.mark.parametrize("example", EXAMPLES, ids=["2025-11-25", "2026-07-28"])
def test_curl(server: HttpServer, example: str) -> None:
    here = example.replace("http://127.0.0.1:8787", server.url)
    assert here != example
    done = subprocess.run(["bash", "-c", here], capture_output=True, check=True, timeout=20)
    result = json.loads(done.stdout)["result"]
    assert result["isError"] is False
    content = result["structuredContent"]
    if "event_id" in content:
        [logged] = [event for event in server.events() if event["activity_id"] == content["event_id"]]
        assert logged["_source_system"] == "curl"
    else:
        assert content["customer"] == "acme"
