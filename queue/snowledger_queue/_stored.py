"""Checks of what was read from ``state.db``: SQLite does not notice every bit that flipped."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import orjson

from ._event import timestamp
from ._state import DamagedStateError

if TYPE_CHECKING:
    from collections.abc import Iterable

TEXT: frozenset[type] = frozenset({str})
OPTIONAL_TEXT: frozenset[type] = TEXT | {type(None)}
BYTES: frozenset[type] = frozenset({bytes})
INTEGER: frozenset[type] = frozenset({int})
OPTIONAL_INTEGER: frozenset[type] = INTEGER | {type(None)}


def check_types(rows: Iterable[Iterable[object]], *columns: frozenset[type]) -> None:
    """Check the columns of all rows. Raises ``DamagedStateError``."""
    # By columns, for there may be thousands of rows; there are no columns when there are no rows.
    for values, types in zip(zip(*rows, strict=True), columns, strict=False):
        if not types.issuperset(map(type, values)):
            raise DamagedStateError("a value has another type than was written")


def check_time(text: str) -> None:
    """Check that it is in the form of ``ts``. Raises ``DamagedStateError``."""
    try:
        if timestamp(datetime.fromisoformat(text)) == text:
            return
    except ValueError:
        pass
    raise DamagedStateError("a time cannot be decoded")


def check_json(text: str | bytes) -> object:
    """Parse what must be JSON on one line. Raises ``DamagedStateError``."""
    try:
        if ("\n" if isinstance(text, str) else b"\n") not in text:  # type: ignore[operator]  # both or neither
            return orjson.loads(text)
    except ValueError:
        pass
    raise DamagedStateError("a value is not JSON")
