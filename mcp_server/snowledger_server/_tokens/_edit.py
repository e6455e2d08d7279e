"""Adding and revoking tokens: one editor at a time, and the file is the old one or the new one."""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from snowledger_queue import LockHeldError, ProcessLock, timestamp, write_small_file
from snowledger_server._errors import TokenError, TokenFileError

from ._file import encoded, read_tokens
from ._token import ID_BYTES, Token, new_secret

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime
    from pathlib import Path

    from ._token import Scope

WAIT_S = 10.0
"""An edit takes milliseconds: who waits longer waits for a process that hangs."""


def add_token(
    path: Path,
    name: str,
    scope: Scope,
    customer: str | None,
    allowed: Collection[str],
    expires: datetime | None,
    now: datetime,
) -> tuple[Token, str]:
    """Make a token and store it; gives its record and its text, which nobody can find out again.

    Raises:
        TokenError: a value is not accepted, or the name is taken.
        TokenFileError: the file cannot be used, or not be written.
        snowledger_queue.LockHeldError: somebody else edits it.
    """
    with _editing(path):
        tokens = read_tokens(path)
        if any(name in {token.name, token.id} for token in tokens):
            raise TokenError("name", f"{name!a} is taken; choose another, or revoke that token first")
        token_id = secrets.token_hex(ID_BYTES)
        text, sha256 = new_secret(token_id)
        token = Token(
            id=token_id,
            name=name,
            sha256=sha256,
            scope=scope,
            customer=customer,
            allowed=tuple(sorted({*allowed} - {customer})),
            created=timestamp(now),
            expires=None if expires is None else timestamp(expires),
        )
        _write(path, [*tokens, token])
    return token, text


def revoke_token(path: Path, name_or_id: str) -> Token:
    """Forget a token: from then on it opens nothing. Gives its record.

    Raises:
        TokenError: there is none of that name or id.
        TokenFileError: the file cannot be used, or not be written.
        snowledger_queue.LockHeldError: somebody else edits it.
    """
    _find(path, name_or_id)  # there may be no folder yet to edit in
    with _editing(path):
        token, others = _find(path, name_or_id)
        _write(path, others)
    return token


def _find(path: Path, name_or_id: str) -> tuple[Token, list[Token]]:
    """The token, and the others."""
    tokens = read_tokens(path)
    token = next((token for token in tokens if name_or_id in {token.name, token.id}), None)
    if token is None:
        raise TokenError("name", f"there is no {name_or_id!a}; 'snowledger token list' has those that there are")
    return token, [one for one in tokens if one is not token]


def _write(path: Path, tokens: list[Token]) -> None:
    content = encoded(path, tokens)
    try:
        write_small_file(path, content)
    except OSError as error:
        raise TokenFileError(path, f"cannot be written: {error.strerror or error}") from error


@contextmanager
def _editing(path: Path) -> Iterator[None]:
    """Nobody else edits meanwhile.

    Raises ``LockHeldError`` when somebody does for long, ``TokenFileError`` where there is no folder.
    """
    if not path.parent.is_dir():
        raise TokenFileError(path, f"cannot be written: there is no folder {path.parent}; make it first")
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            lock = ProcessLock.acquire(path.with_name(f"{path.name}.lock"), "token")
            break
        except LockHeldError:  # after a tenth of a second
            if time.monotonic() > deadline:
                raise
    try:
        yield
    finally:
        lock.release(remove=True)
