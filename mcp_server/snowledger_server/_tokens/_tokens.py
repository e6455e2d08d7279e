"""The tokens as a server checks them: at each request against what the file says then."""

from __future__ import annotations

import hmac
import logging
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from snowledger_server._errors import TokenFileError

from ._file import parsed, read_private
from ._token import digest, parts

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

    from ._token import Grant, Token

log = logging.getLogger(__name__)

_NOBODYS = "0" * 64
"""Compared where no token has the id, so that it takes as long as for a wrong secret. It is no secret's hash."""


class Tokens:
    """Who is let in, by a file that may change under the server. Never raises: what is wrong with it lets nobody in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark: Hashable = None
        self._known: dict[str, tuple[Token, Grant]] = {}
        self.needed = False
        """What ``required`` said, as of the last look at the file; ``authenticate`` looks too."""
        self._problem: str | None = None

    def required(self) -> bool:
        """Whether a request needs a token: there is a file, or was one since the server started."""
        self._look()
        return self.needed

    def problem(self) -> str | None:
        """Why nobody is let in; None while the file can be used. Names the path: for logs, not for clients."""
        self._look()
        return self._problem

    def authenticate(self, text: str) -> Grant | None:
        """What the bearer of this token may do; None for whatever is no valid one, all in the same time.

        Takes some 10 µs: a look at the file's stat, and a hash.
        """
        self._look()
        found = parts(text)
        if found is None:
            return None
        token, grant = self._known.get(found[0], (None, None))
        same = hmac.compare_digest(digest(found[1]), _NOBODYS if token is None else token.sha256)
        if token is None or not same or token.expired(datetime.now(UTC)):
            return None
        return grant

    def _look(self) -> None:
        """Read the file if its stat says that it is another one."""
        try:
            status = os.lstat(self._path)
        except OSError as error:
            mark: Hashable = error.errno
        else:
            # The owner and the mode are in ctime.
            mark = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if mark == self._mark:
            return
        # Before the reading: a file that changes meanwhile is read again.
        self._mark = mark
        problem, tokens = None, []
        try:
            tokens = parsed(self._path, read_private(self._path))
        except FileNotFoundError:
            if self.needed:
                problem = f"{self._path} is gone; without it only a server that starts anew does without tokens"
        except OSError as error:
            problem = f"{self._path} cannot be read: {error.strerror}"
            self._mark = None  # no open file left, perhaps: that shows in no stat
        except TokenFileError as error:
            problem = str(error)
        self._known = {token.id: (token, token.grant) for token in tokens}
        self.needed = self.needed or problem is not None or isinstance(mark, tuple)
        if problem is not None and problem != self._problem:
            log.error("nobody is let in: %s", problem)
        elif problem is None and self.needed:
            log.info("tokens in %s: %d", self._path, len(tokens))
        self._problem = problem
