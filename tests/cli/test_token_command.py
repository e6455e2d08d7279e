"""``snowledger token``: the secret is shown once, and nothing of it is kept."""

import hashlib
import json
import os
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.cli.cli_process import Cli, imported_by

from snowledger_server import Identity, Tokens

TOKEN = re.compile(r"slt_[0-9a-f]{12}_[0-9a-f]{64}")


def listed(cli: Cli) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cli.run("token", "list", "--json").stdout.splitlines()]


def test_a_token_is_printed_once_and_its_secret_is_kept_nowhere(cli: Cli) -> None:
    made = cli.run("token", "add", "alice", "--customer", "acme", "--allow", "beta, gamma")
    text = made.stdout.strip()
    assert TOKEN.fullmatch(text)
    assert "it is shown only now" in made.stderr
    secret = text.split("_", 2)[2]
    found = Tokens(cli.home / "tokens.json").authenticate(text)
    assert found is not None
    assert found.identity == Identity("acme", frozenset({"beta", "gamma"}))
    shown = made.stderr + cli.run("token", "list").stdout + cli.run("token", "list", "--json").stdout
    assert secret not in shown
    assert hashlib.sha256(secret.encode()).hexdigest() not in shown
    kept = [path.read_bytes() for path in cli.home.rglob("*") if path.is_file()]
    assert [content for content in kept if secret.encode() in content] == []
    [token] = listed(cli)
    expires = datetime.fromisoformat(token["expires"]) - datetime.now(UTC)
    assert timedelta(days=89) < expires < timedelta(days=91)
    assert token["allowed"] == ["beta", "gamma"]


def test_a_token_is_revoked_by_its_name_or_its_id(cli: Cli) -> None:
    tokens = Tokens(cli.home / "tokens.json")
    added = [
        cli.json("token", "add", "alice", "--customer", "acme", "--expires", "never"),
        cli.json("token", "add", "prom", "--scope", "metrics", "--expires", "2999-01-01"),
    ]
    assert [tokens.authenticate(token.pop("token")) is not None for token in added] == [True, True]
    assert listed(cli) == added
    assert [(token["customer"], token["expires"]) for token in added] == [
        ("acme", None),
        (None, "2999-01-01T00:00:00.000000Z"),
    ]
    assert cli.run("token", "revoke", "alice").stdout == f"{added[0]['id']}: alice is revoked\n"
    cli.run("token", "revoke", added[1]["id"])
    assert cli.run("token", "list").stdout == "no tokens\n"
    assert "there is no 'alice'" in cli.run("token", "revoke", "alice", code=1).stderr


@pytest.mark.parametrize("expires", ["0d", "-1d", "100000d", "2020-01-01", "tomorrow", "", "9999-12-31T23:59:59-23:00"])
def test_a_token_that_is_over_before_it_begins_is_refused(expires: str, cli: Cli) -> None:
    refused = cli.run("token", "add", "alice", "--customer", "acme", "--expires", expires, code=2)
    assert "accepted: days such as 90d, a date to come such as 2027-06-30 (UTC), never" in refused.stderr
    assert not cli.home.exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_a_file_that_others_can_read_is_refused_with_what_mends_it(cli: Cli) -> None:
    file = cli.folder / "elsewhere.json"
    cli.run("token", "add", "alice", "--customer", "acme", SNOWLEDGER_TOKENS_FILE=str(file))
    assert not cli.home.exists()
    file.chmod(0o644)
    for words in (["list"], ["revoke", "alice"], ["add", "bob", "--customer", "acme"]):
        refused = cli.run("token", *words, code=1, SNOWLEDGER_TOKENS_FILE=str(file))
        assert refused.stderr == (
            f"snowledger: {file} is open to other users (mode 644, accepted: 600); if snowledger wrote it, chmod 600 "
            "mends it, else name another file\n"
        )


def test_where_there_is_no_folder_yet_the_reason_is_told(cli: Cli) -> None:
    assert "there is no 'alice'" in cli.run("token", "revoke", "alice", code=1).stderr
    file = cli.folder / "none" / "tokens.json"
    refused = cli.run("token", "add", "alice", "--customer", "acme", code=1, SNOWLEDGER_TOKENS_FILE=str(file))
    assert refused.stderr == (
        f"snowledger: {file} cannot be written: there is no folder {file.parent}; make it first\n"
    )


def test_tokens_are_edited_without_the_mcp_sdk(cli: Cli) -> None:
    loaded = imported_by(cli, "token", "add", "alice", "--customer", "acme")
    assert "snowledger_server._tokens" in loaded
    assert {"mcp", "mcp_types", "uvicorn", "starlette", "duckdb"} & loaded == set()
