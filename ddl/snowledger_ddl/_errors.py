"""What can go wrong with the schema: one error, which names the statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._statements import Statement


class DdlError(Exception):
    """The warehouse schema could not be brought up to date.

    ``statement`` is the one that failed (None when none was reached), ``__cause__`` the driver's error.
    """

    def __init__(self, message: str = "", statement: Statement | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())
        self.statement = statement
