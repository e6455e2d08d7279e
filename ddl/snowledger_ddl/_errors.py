"""What can go wrong: with the schema, with a template, with the parameters of a query."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._statements import Statement
    from ._template import TemplateProblem


class DdlError(Exception):
    """The warehouse schema could not be brought up to date.

    ``statement`` is the one that failed (None when none was reached), ``__cause__`` the driver's error.
    """

    def __init__(self, message: str = "", statement: Statement | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())
        self.statement = statement


class ParameterError(Exception):
    """Parameters of a query are wrong. ``problems``: of each, its name, and what is wrong and what is accepted."""

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(f"{name}: {text}" for name, text in problems))
        self.problems = problems


class TemplateError(Exception):
    """A template cannot be run. ``problems`` says why, with file and line."""

    def __init__(self, problems: tuple[TemplateProblem, ...]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems
