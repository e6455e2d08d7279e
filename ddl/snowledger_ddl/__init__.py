"""The warehouse contract as SQL, the small runner that applies it, and the templates of governed queries.

One folder per dialect holds numbered files, one object each. Every file leaves its own hash in the comment
on its object, so the database itself tells which objects are up to date: ``apply`` runs the files of the
others, on DuckDB in one transaction, and writes nothing when there are none. ``verify`` compares the columns with the
contract, ``render`` gives the SQL for another client.

The contract (DuckDB: schema ``activities``; Snowflake: ``CLAUDE_LOGS.ACTIVITIES`` unless named otherwise):

- ``raw_events``, append-only landing table: the only place where events are inserted;
- ``_ingest_ids``, which events are loaded already;
- ``events``, the ActivitySchema v2.0 stream. ``activity_occurrence`` and ``activity_repeated_at`` follow
  the spec's implementation notes and are computed when read, so events that arrive late are counted right. On
  Snowflake it is a table that follows within a minute, and ``events_live`` the view;
- ``insight_atoms``, the well-formed and the quarantined insights among the events;
- ``context_cache``, of each customer the insights that hold now, counts of events, and the newest events;
- ``artifacts``, the results of queries that were kept, among the events.

A template is a SELECT over those views with a front matter (docs/templates.md). ``load_templates`` reads front matters
alone; ``check_templates`` and ``executable`` parse the statements with sqlglot, which nothing else here imports.

The package imports no driver; it takes any connection that has ``execute``.
"""

from __future__ import annotations

from ._catalogue import TEMPLATE_DIALECTS, load_templates
from ._contract import contract
from ._errors import DdlError, ParameterError, TemplateError
from ._executable import check_templates, executable, positional
from ._names import SnowflakeNames
from ._parameters import (
    bound_parameters,
    checked_parameters,
    parse_parameter_text,
    query_hash,
    reserved_parameters,
)
from ._runner import Connection, Rows, applied_features, apply, pending, render, verify
from ._statements import DIALECTS, Statement, statements
from ._template import CONTRACT_VIEWS, Catalogue, Parameter, Template, TemplateProblem

__all__ = [
    "CONTRACT_VIEWS",
    "DIALECTS",
    "TEMPLATE_DIALECTS",
    "Catalogue",
    "Connection",
    "DdlError",
    "Parameter",
    "ParameterError",
    "Rows",
    "SnowflakeNames",
    "Statement",
    "Template",
    "TemplateError",
    "TemplateProblem",
    "applied_features",
    "apply",
    "bound_parameters",
    "check_templates",
    "checked_parameters",
    "contract",
    "executable",
    "load_templates",
    "parse_parameter_text",
    "pending",
    "positional",
    "query_hash",
    "render",
    "reserved_parameters",
    "statements",
    "verify",
]
