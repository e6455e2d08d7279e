"""The kill switch: while it is on, no query is taken and none runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from ._ticket import CANCEL

if TYPE_CHECKING:
    import sqlite3

KillSwitchUser: TypeAlias = Literal["operator", "budget"]
"""Who turns it."""


class KillSwitch(NamedTuple):
    """How the kill switch stands."""

    on: bool = False
    reason: str = ""
    since: str | None = None
    """When it was turned on or off last, in the form of ``ts``; None when it was never used."""
    by: KillSwitchUser | None = None


def read_kill_switch(run: sqlite3.Connection) -> KillSwitch:
    """How it stands."""
    row = run.execute("SELECT is_on, reason, since, set_by FROM kill_switch").fetchone()
    return KillSwitch() if row is None else KillSwitch(bool(row[0]), *row[1:])


def turn_kill_switch(run: sqlite3.Connection, *, on: bool, reason: str, by: KillSwitchUser, now: str) -> bool:
    """Turn it within a transaction; whether it stood otherwise before.

    Turning it on cancels what is queued, and asks the uploader to cancel what is running. While an operator's is on,
    the budget changes nothing; an operator who turns on what is on gives it a reason of its own.
    """
    before = read_kill_switch(run)
    if before.on and before.by == "operator" and by == "budget":
        return False
    changed = before.on != on
    if changed or on:
        since = now if changed else before.since
        run.execute("INSERT OR REPLACE INTO kill_switch VALUES (1, ?, ?, ?, ?)", (on, reason, since, by))
    if changed and on:
        run.execute(CANCEL, {"reason": f"the kill switch was turned on: {reason}", "now": now})
    return changed
