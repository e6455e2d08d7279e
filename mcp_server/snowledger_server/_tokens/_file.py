"""``tokens.json``: reading it strictly, and what makes it one that nobody else can have written or read."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import orjson

from snowledger_queue import OsFilesystem, UnsafeFileError
from snowledger_server._errors import TokenError, TokenFileError

from ._token import Token, decoded

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FORMAT = 1

MAX_FILE_BYTES = 512 * 1024
"""Some 1,600 tokens. A server checks them within 0.1 s, in its event loop, each time that the file has changed."""


def read_tokens(path: Path) -> list[Token]:
    """The tokens in the file, oldest first; none when it is not there.

    Raises:
        TokenFileError: it cannot be read, others than its owner could, or it is damaged.
    """
    try:
        content = read_private(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TokenFileError(path, f"cannot be read: {error.strerror}") from error
    return parsed(path, content)


def read_private(path: Path) -> bytes:
    """The file's content.

    Raises:
        OSError: it is not there or cannot be read.
        TokenFileError: it is no plain file of this user alone, or too large.
    """
    status = os.lstat(path)
    try:
        # Answers for links and FIFOs.
        size = OsFilesystem().size(path)
        if sys.platform != "win32":
            if status.st_uid not in {os.geteuid(), 0}:
                raise TokenFileError(path, f"belongs to user id {status.st_uid}, not to this one, {os.geteuid()}")
            if status.st_mode & 0o077:
                mode = f"{status.st_mode & 0o777:o}"
                what = f"is open to other users (mode {mode}, accepted: 600)"
                raise TokenFileError(
                    path, f"{what}; if snowledger wrote it, chmod 600 mends it, else name another file"
                )
        if size > MAX_FILE_BYTES:
            raise TokenFileError(path, f"has {size} bytes; accepted are up to {MAX_FILE_BYTES}")
        return OsFilesystem().read(path)
    except UnsafeFileError:
        raise TokenFileError(path, "is not a plain file with one name; put a file of its own there") from None


def parsed(path: Path, content: bytes) -> list[Token]:
    """The tokens in the file's content.

    Raises:
        TokenFileError: it is damaged.
    """
    try:
        values = orjson.loads(content)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise TokenError("format", f"is not {FORMAT}")  # noqa: TRY301 - one place says what is wrong
        tokens = [decoded(record) for record in values["tokens"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        # Nothing of what was found: it may be part of a secret file of somebody else.
        raise TokenFileError(path, "is not what snowledger wrote") from None
    except TokenError as error:
        raise TokenFileError(path, f"is not what snowledger wrote ({error})") from None
    for values in ([token.id for token in tokens], [token.name for token in tokens]):
        if len(set(values)) < len(tokens):
            raise TokenFileError(path, "has a name or an id twice")
    return tokens


def encoded(path: Path, tokens: Iterable[Token]) -> bytes:
    """The file's content for these tokens.

    Raises:
        TokenFileError: they are more than the file may hold.
    """
    records = [asdict(token) for token in tokens]
    content = orjson.dumps(
        {"format": FORMAT, "tokens": records}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    )
    if len(content) > MAX_FILE_BYTES:
        raise TokenFileError(path, f"would have {len(content)} bytes; accepted are up to {MAX_FILE_BYTES}")
    return content
