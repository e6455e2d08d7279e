"""Which folder of the stage is a spool's own: what it left there is found again, and nobody else's is touched."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from snowledger_queue import UnsafeFileError, write_small_file
from snowledger_uploader._errors import WarehouseUnavailableError

if TYPE_CHECKING:
    from snowledger_queue import Spool

_BYTES = 8
"""Of chance in a name: some hundred spools in one stage never meet."""

_NAME = re.compile(rf"[0-9a-f]{{{2 * _BYTES}}}")


def stage_folder(spool: Spool) -> str:
    """The folder's name, made by chance the first time and kept in the spool, wherever that is moved to. Blocking.

    A file that does not hold a name is replaced by another one; what is in the old folder then stays there.

    Raises:
        WarehouseUnavailableError: the name cannot be read or kept.
    """
    path = spool.stage_folder
    try:
        try:
            kept = spool.filesystem.read(path).decode("ascii", "replace")
        except FileNotFoundError:
            kept = ""
        if _NAME.fullmatch(kept):
            return kept
        made = secrets.token_hex(_BYTES)
        write_small_file(path, made.encode(), spool.filesystem)
    except (OSError, UnsafeFileError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WarehouseUnavailableError(f"the stage's folder cannot be looked up in {path}: {reason}") from error
    return made
