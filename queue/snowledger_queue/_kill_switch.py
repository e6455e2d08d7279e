"""The kill switch: while it is on, no query is taken and none runs.

It is a small file of its own, so that it outlives ``state.db``, which is made anew when it is lost or damaged.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

import orjson

from ._errors import KillSwitchError, StateError, UnsafeFileError
from ._spool import write_small_file
from ._state import DamagedStateError
from ._stored import OPTIONAL_TEXT, TEXT, check_time, check_types

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ._spool import Spool

KillSwitchUser: TypeAlias = Literal["operator", "budget"]
"""Who turns it."""

_BOOLEAN: frozenset[type] = frozenset({bool})

_MAX_BYTES = 64 * 1024
"""A reason of a sentence or two; whatever else lies there is not read."""


class KillSwitch(NamedTuple):
    """How the kill switch stands."""

    on: bool = False
    reason: str = ""
    since: str | None = None
    """When it was turned on or off last, in the form of ``ts``; None when it was never used, or that is not known."""
    by: KillSwitchUser | None = None


class KillSwitchFile:
    """The kill switch of a spool. What is wrong with its file turns it on: nobody can say that it is off."""

    def __init__(self, spool: Spool) -> None:
        self._path = spool.kill_switch
        self._filesystem = spool.filesystem

    def mark(self) -> Hashable:
        """Differs after the switch was turned. Takes microseconds and never raises."""
        try:
            status = os.lstat(self._path)
        except OSError as error:
            return error.errno
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def read(self) -> KillSwitch:
        """How it stands. Takes some ten microseconds and never raises. Clients see the reason: it names no folder."""
        try:
            if self._filesystem.size(self._path) > _MAX_BYTES:
                raise DamagedStateError("too large")  # noqa: TRY301 - one place says what is wrong
            return _decoded(self._filesystem.read(self._path))
        except FileNotFoundError:
            return KillSwitch()
        except OSError as error:
            problem = f"{self._path.name}: {error.strerror or error}"
        except UnsafeFileError:
            problem = f"{self._path.name} is not a plain file with one name"
        except (ValueError, DamagedStateError):
            problem = f"{self._path.name} is damaged"
        return KillSwitch(on=True, reason=f"how it stands cannot be read ({problem}); turn it on or off to mend that")

    def refuse_queries(self) -> None:
        """Raise ``KillSwitchError`` while it is on."""
        switch = self.read()
        if switch.on:
            raise KillSwitchError(switch.reason, switch.since)

    def turn(self, *, on: bool, reason: str, by: KillSwitchUser, now: str) -> bool:
        """Turn it; whether it stood otherwise before.

        While an operator's is on, the budget changes nothing; an operator who turns on what is on gives it a reason of
        its own. Raises ``StateError`` when it could not be turned.
        """
        before = self.read()
        if before.on and before.by == "operator" and by == "budget":
            return False
        changed = before.on != on
        if changed or on:
            switch = KillSwitch(on, reason, now if changed else before.since or now, by)
            try:
                write_small_file(self._path, orjson.dumps(switch._asdict()), self._filesystem)
            except OSError as error:
                message = f"{self._path} cannot be written: {error.strerror or error}"
                raise StateError(message, transient=True) from error
        return changed


def _decoded(content: bytes) -> KillSwitch:
    """Raises ``ValueError`` and ``DamagedStateError``."""
    values = orjson.loads(content)
    if not isinstance(values, dict) or values.keys() != set(KillSwitch._fields):
        raise DamagedStateError("it has not the members that were written")
    check_types([[values[name] for name in KillSwitch._fields]], _BOOLEAN, TEXT, OPTIONAL_TEXT, OPTIONAL_TEXT)
    switch = KillSwitch(**values)
    if switch.since is not None:
        check_time(switch.since)
    if switch.by not in {None, *get_args(KillSwitchUser)}:
        raise DamagedStateError("nobody of that name turns it")
    return switch
