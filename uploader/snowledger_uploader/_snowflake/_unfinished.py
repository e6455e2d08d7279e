"""Transactions that an earlier session left open, which nobody may find committed later.

A COMMIT whose reply was lost may still be on its way or stuck when its batch's receipt is looked for. Were it to take
effect after that, the batch would be there twice. So whoever loads ends first what is open under the loader's name.
Nobody else does: an uploader may be at work.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from snowledger_uploader._errors import UploaderError, WarehouseUnavailableError

if TYPE_CHECKING:
    from ._session import Session

log = logging.getLogger(__name__)

_ID, _SESSION, _NAME = 0, 2, 3
"""Their places in what SHOW TRANSACTIONS answers. It needs no running warehouse."""


def begin(folder: str) -> str:
    """The statement that begins a transaction of the loader's, whose name is that of its folder in the stage."""
    return f"BEGIN TRANSACTION NAME {_name(folder)}"


async def abort_unfinished(session: Session, folder: str, earlier: int | None) -> None:
    """End the loader's transactions of other sessions; afterwards what is not committed will never be.

    ``earlier`` is the number of a session that has loaded before. A transaction there may have another name, that of
    one which Snowflake began by itself after somebody had ended the loader's.

    Raises:
        WarehouseUnavailableError: one is still open, or there is no answer.
        UploaderError: as ``Session.run``.
    """
    unfinished = await _open(session, folder, earlier)
    for number in unfinished:
        log.warning("an earlier session's transaction is still open and is ended")
        with suppress(UploaderError):  # it may have ended by itself: the next look tells
            await session.run(f"SELECT SYSTEM$ABORT_TRANSACTION({number})")
    if unfinished and await _open(session, folder, earlier):
        message = "Snowflake: an earlier session's transaction is still open; nothing is loaded meanwhile"
        raise WarehouseUnavailableError(message)


async def _open(session: Session, folder: str, earlier: int | None) -> list[int]:
    rows = (await session.run("SHOW TRANSACTIONS")).rows
    return [int(row[_ID]) for row in rows if str(row[_NAME]).lower() == _name(folder) or int(row[_SESSION]) == earlier]


def _name(folder: str) -> str:
    return f"snowledger_{folder}"
