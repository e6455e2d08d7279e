"""What the objects of an installation are called in Snowflake: the variables of its SQL files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from ._errors import DdlError

_IDENTIFIER = re.compile(r"[A-Z_][A-Z0-9_]{0,254}")
"""Names that mean the same with and without quotes, so that nobody has to quote them in queries."""


@dataclass(frozen=True, slots=True)
class SnowflakeNames:
    """The names of one installation.

    ``loader_user`` is the service user that is made, if any; ``search_optimization`` is for accounts of Enterprise
    edition.

    Raises:
        DdlError: a name is no plain identifier in upper case.
    """

    database: str = "CLAUDE_LOGS"
    schema: str = "ACTIVITIES"
    warehouse: str = "CLAUDE_LOGS_WH"
    loader_role: str = "CLAUDE_LOGS_LOADER"
    reader_role: str = "CLAUDE_LOGS_READER"
    loader_user: str | None = None
    search_optimization: bool = False

    def __post_init__(self) -> None:
        for name, value in self.variables().items():
            if value is not None and not _IDENTIFIER.fullmatch(value):
                raise DdlError(
                    f"{name} {value[:64]!a} is not accepted; accepted: upper-case letters, digits and _, "
                    "no digit first, at most 255"
                )

    def variables(self) -> Mapping[str, str | None]:
        """By name in ``${name}``; a statement that mentions one without a value is left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "search_optimization": "ON" if self.search_optimization else None}
