"""Who is let in by ``tokens.json``: by a valid token alone, and by nothing while the file is not as it was written."""

import hmac
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from snowledger_queue import LockHeldError, ProcessLock
from snowledger_server import (
    Grant,
    Identity,
    TokenError,
    TokenFileError,
    Tokens,
    UnprotectedError,
    add_token,
    read_tokens,
    require_protection,
    revoke_token,
)
from snowledger_server._tokens import _edit, _file, _tokens

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX modes and links")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def add(path: Path, name: str = "alice", *allowed: str, days: float | None = 1, **more: Any) -> str:
    now = datetime.now(UTC)
    expires = None if days is None else now + timedelta(days=days)
    options: dict[str, Any] = {"scope": "mcp", "customer": "acme", **more}
    return add_token(path, name, allowed=allowed, expires=expires, now=now, **options)[1]


def test_a_token_says_whom_its_bearer_acts_for(path: Path) -> None:
    alice, metrics = add(path, "alice", "beta", "acme"), add(path, "prom", scope="metrics", customer=None)
    tokens = Tokens(path)
    first, second = read_tokens(path)
    assert tokens.authenticate(alice) == Grant(first.id, "mcp", Identity("acme", frozenset({"beta"})))
    assert tokens.authenticate(metrics) == Grant(second.id, "metrics", None)
    assert tokens.required()
    assert tokens.problem() is None


def test_what_is_no_valid_token_lets_nobody_in(path: Path) -> None:
    text = add(path)
    expired, revoked = add(path, "old", days=-0.001), add(path, "gone")
    revoke_token(path, "gone")
    _, token_id, secret = text.split("_", 2)
    wrong = f"{secret[:-1]}{'a' if secret[-1] != 'a' else 'b'}"
    tokens = Tokens(path)
    assert tokens.authenticate(text) is not None
    for stranger in (
        *(expired, revoked, f"slt_{token_id}_{wrong}", f"slt_{'0' * 12}_{secret}", secret, token_id, ""),
        *(text[:-1], f"{text}a", f"{text} ", f"{text}\n", text.upper(), f"slt_{token_id}_", "slt__", "slt_\0"),
        *(f"slt_{token_id}_{read_tokens(path)[0].sha256}", "\xe9" * 60, "slt_" * 100_000),
    ):
        assert tokens.authenticate(stranger) is None


def test_an_unknown_id_takes_the_way_of_a_wrong_secret(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = add(path)
    expired = add(path, "old", days=-1)
    compared: list[tuple[int, int]] = []

    def compare(one: str, other: str) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    tokens = Tokens(path)
    for stranger in (f"{text[:-9]}000000000", f"slt_{'0' * 12}{text[16:]}", expired, f"{expired[:-9]}000000000"):
        assert tokens.authenticate(stranger) is None
    assert compared == [(64, 64)] * 4


def test_a_change_holds_from_the_next_request_on(path: Path) -> None:
    tokens = Tokens(path)
    assert not tokens.required()
    text = add(path, days=0.5 / 86400)
    assert tokens.required()
    assert tokens.authenticate(text) is not None
    bob = add(path, "bob", days=None)
    assert tokens.authenticate(bob) is not None
    revoke_token(path, read_tokens(path)[1].id)
    assert tokens.authenticate(bob) is None
    deadline = time.monotonic() + 5
    while tokens.authenticate(text) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    revoke_token(path, "alice")
    assert tokens.required(), "who has revoked the last one has not opened the door"
    assert Tokens(path).required(), "nor has a server that starts then"


def test_a_file_that_does_not_change_is_read_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(found: Path) -> bytes:
        read.append(found)
        return _file.read_private(found)

    monkeypatch.setattr(_tokens, "read_private", counted)
    text = add(path)
    tokens = Tokens(path)
    began = time.perf_counter()
    for _ in range(2_000):
        assert tokens.authenticate(text) is not None
    assert time.perf_counter() - began < 2, "some 10 µs each, with much to spare"
    assert len(read) == 1
    path.write_bytes(b"{")
    for _ in range(100):
        tokens.authenticate(text)
    assert len(read) == 2, "nobody makes a server read a damaged file again and again"


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def record(name: str, value: object) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        values = orjson.loads(content)
        values["tokens"][0][name] = value
        return orjson.dumps(values)

    return change


def twice(content: bytes) -> bytes:
    values = orjson.loads(content)
    return orjson.dumps({**values, "tokens": [*values["tokens"], {**values["tokens"][0], "id": "0" * 12}]})


DAMAGES: list[Callable[[bytes], bytes]] = [
    cut,
    lambda _content: b"",
    lambda _content: b"\0" * 400,
    lambda _content: b"[]",
    lambda _content: b'{"format": 1}',
    lambda _content: b'{"format": 1, "tokens": [5]}',
    lambda content: content.replace(b'"format": 1', b'"format": 2'),
    lambda content: content + b" " * _file.MAX_FILE_BYTES,
    twice,
    record("customer", None),
    record("customer", "snowledger"),
    record("customer", "a/b"),
    record("allowed", [5]),
    record("allowed", "beta"),
    record("scope", "all"),
    record("sha256", "0"),
    record("id", "x"),
    record("name", "two\nlines"),
    record("expires", "tomorrow"),
    record("expires", "2027-01-01"),
    record("more", 1),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_lets_nobody_in_and_is_said_once(
    damage: Callable[[bytes], bytes], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = add(path)
    good = path.read_bytes()
    tokens = Tokens(path)
    assert tokens.authenticate(text) is not None
    path.write_bytes(damage(good))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert tokens.authenticate(text) is None
            assert tokens.required()
    assert str(path) in str(tokens.problem())
    assert len(caplog.records) == 1
    assert Tokens(path).required()
    with pytest.raises(TokenFileError):
        add(path, "bob")
    path.write_bytes(good)
    assert tokens.problem() is None
    assert tokens.authenticate(text) is not None


def link(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("elsewhere")))


def hard_link(path: Path) -> None:
    path.with_name("second").hardlink_to(path)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


UNSAFE: list[Any] = [
    link,
    hard_link,
    fifo,
    folder,
    lambda path: path.chmod(0o640),
    lambda path: path.chmod(0o602),
    pytest.param(
        lambda path: os.chown(path, 65534, -1),
        marks=pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away"),
    ),
]


@posix
@pytest.mark.parametrize("change", UNSAFE)
def test_a_file_that_others_could_have_written_or_read_lets_nobody_in(
    change: Callable[[Path], None], path: Path
) -> None:
    text = add(path)
    tokens = Tokens(path)
    assert tokens.authenticate(text) is not None
    change(path)
    assert tokens.authenticate(text) is None
    assert tokens.required()
    for edit in (lambda: add(path, "bob"), lambda: revoke_token(path, "alice"), lambda: read_tokens(path)):
        with pytest.raises(TokenFileError):
            edit()


def test_a_file_that_is_gone_opens_no_server_that_runs(path: Path) -> None:
    text = add(path)
    tokens = Tokens(path)
    assert tokens.authenticate(text) is not None
    path.unlink()
    assert tokens.authenticate(text) is None
    assert tokens.required()
    assert "is gone" in str(tokens.problem())


def test_editors_at_the_same_time_lose_nothing(path: Path) -> None:
    names = [f"token-{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda name: add(path, name), names))
    assert sorted(token.name for token in read_tokens(path)) == names
    tokens = Tokens(path)
    assert all(tokens.authenticate(text) is not None for text in texts)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path], "nothing is left beside it"


def test_an_editor_that_hangs_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_edit, "WAIT_S", 0)
    lock = ProcessLock.acquire(path.with_name("tokens.json.lock"), "token")
    with pytest.raises(LockHeldError, match=f"held by process {os.getpid()}"):
        add(path)
    lock.release()
    assert add(path), "a lock file that a dead editor left keeps nobody out"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"name": ""}, "name: '' is not accepted; accepted: 1 to 64 letters"),
        ({"name": "alice"}, "'alice' is taken"),
        ({"customer": None}, "customer: missing"),
        ({"customer": "snowledger"}, "customer: snowledger is snowledger's own"),
        ({"allowed": ["b\n"]}, "allowed: accepted are printable characters"),
        ({"scope": "metrics"}, "acts for no customer"),
        ({"scope": "all"}, "scope: 'all' is not accepted; accepted: mcp, metrics"),
    ],
)
def test_what_a_token_cannot_be_is_refused_and_nothing_changes(
    values: dict[str, Any], problem: str, path: Path
) -> None:
    add(path)
    before = path.read_bytes()
    options = {"name": "bob", "scope": "mcp", "customer": "acme", "allowed": [], "expires": None, **values}
    with pytest.raises(TokenError) as refused:
        add_token(path, now=datetime.now(UTC), **options)
    assert problem in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST"])
def test_this_machine_alone_needs_no_token(host: str, path: Path) -> None:
    require_protection(host, Tokens(path))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.4", "fe80::1", "localhost.example", "127.1", "*"])  # noqa: S104
def test_other_machines_reach_no_server_without_tokens(host: str, path: Path) -> None:
    with pytest.raises(UnprotectedError, match="snowledger token add NAME --customer ID"):
        require_protection(host, Tokens(path))
    add(path)
    require_protection(host, Tokens(path))
