"""What a query template is: its text, what it answers, and the parameters it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

RESERVED = frozenset({"customer", "customers", "now"})
"""Placeholders that the runner binds; no parameter has such a name, so no client can set one."""

CONTRACT_VIEWS = frozenset({"events", "insight_atoms", "artifacts", "context_cache"})
"""What a template reads. Each has a column ``customer``."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. ``default``, ``minimum`` and ``maximum`` are normalised, an interval to whole seconds.

    ``type`` is string, integer, number, boolean, timestamp, date, interval, enum or list; ``items`` the type of a
    list's items, to which bounds, ``values`` (of an enum) and ``max_length`` then apply. ``default`` is None when
    ``required``.
    """

    name: str
    type: str
    description: str
    items: str | None = None
    required: bool = True
    default: object = None
    minimum: Any = None
    maximum: Any = None
    values: tuple[str, ...] = ()
    max_length: int | None = None
    max_items: int | None = None

    def json_schema(self) -> dict[str, object]:
        """The values that are accepted, as JSON Schema."""
        from ._values import json_schema

        return json_schema(self)


@dataclass(frozen=True, slots=True)
class Template:
    """One template.

    ``text`` is the DuckDB statement as it stands in the file, stripped; it begins in line ``text_line`` of
    ``source``. ``dialect_texts`` holds the statements of other dialects that have a file of their own.
    """

    name: str
    answers: str
    scope: str
    row_limit: int
    parameters: tuple[Parameter, ...]
    example: Mapping[str, object]
    tables: tuple[str, ...]
    override: bool
    text: str
    text_line: int
    source: str
    dialect_texts: Mapping[str, str]

    @property
    def isolated_by(self) -> str:
        """The placeholder that names whose rows are read: ``customers`` when all allowed ones are."""
        return "customers" if self.scope == "allowed" else "customer"

    def customers(self, customer: str, allowed: Iterable[str]) -> tuple[str, ...]:
        """Whose rows it reads for ``customer``, who may read ``allowed`` too; sorted."""
        return tuple(sorted({customer, *(allowed if self.scope == "allowed" else ())}))


_SHOWN_REASON = 500
"""A reason's characters from its beginning and from its end: it quotes names, and one may be as long as a file."""


def shortened(reason: str) -> str:
    """The reason without its middle when it is too long to show."""
    return reason if len(reason) <= 2 * _SHOWN_REASON else f"{reason[:_SHOWN_REASON]}…{reason[-_SHOWN_REASON:]}"


class TemplateProblem(NamedTuple):
    """Why a file is no usable template. ``line`` counts from 1; 0 when it is about no line."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Templates by name, in that order, and what was wrong with the other files."""

    templates: Mapping[str, Template]
    problems: tuple[TemplateProblem, ...]
