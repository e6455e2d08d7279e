"""From a template to what a warehouse executes, and the check that it can be.

sqlglot is imported when one of these is called, and not before: the server, which only reads front matters, never
loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._catalogue import TEMPLATE_DIALECTS
from ._errors import TemplateError
from ._template import Catalogue, Template, TemplateProblem


def executable(template: Template, dialect: str = "duckdb", *, row_cap: int | None = None) -> str:
    """The statement for a warehouse of the dialect: checked, isolated, of at most ``row_cap`` rows.

    ``row_cap`` is the template's own limit unless given. Bind ``bound_parameters`` and ``reserved_parameters``; for
    Snowflake, where placeholders are written ``:name``, with ``positional``.

    Raises:
        TemplateError: it breaks a rule or cannot be said in the dialect.
    """
    from ._template_sql import rendered

    return rendered(template, dialect, template.row_limit if row_cap is None else row_cap)


def positional(text: str, bound: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """An executable Snowflake text with ``?`` for each placeholder, and the values in their order.

    ``bound`` are ``bound_parameters`` and ``reserved_parameters``; a list takes as many places as it has items.
    """
    from ._template_snowflake import positional

    return positional(text, bound)


def check_templates(catalogue: Catalogue) -> tuple[TemplateProblem, ...]:
    """What keeps templates of the catalogue from being run, in any dialect; empty when all is well."""
    problems: dict[TemplateProblem, None] = {}
    for template in catalogue.templates.values():
        for dialect in TEMPLATE_DIALECTS:
            try:
                executable(template, dialect)
            except TemplateError as error:
                problems |= dict.fromkeys(error.problems)
    return tuple(problems)
