"""From a ticket to the query that is run: its template, its parameters, its caps."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING

import orjson
from anyio import to_thread

from snowledger_ddl import Catalogue, ParameterError, check_templates, checked_parameters, load_templates, query_hash

from ._errors import QueryFailedError
from ._warehouse import Query

if TYPE_CHECKING:
    from pathlib import Path

    from snowledger_ddl import Template
    from snowledger_queue import Ticket

    from ._limits import QueryLimits

log = logging.getLogger(__name__)

MARGIN_S = 5.0
"""How much later the warehouse ends a query than the runner, who then says why."""


class Preparation:
    """The templates, and what is made of them."""

    def __init__(self, folder: Path | None, database: str | None, limits: QueryLimits) -> None:
        """``folder`` holds the user's templates; ``database`` is DuckDB's name for its file, if it is asked."""
        self._folder = folder
        self._database = database
        self._limits = limits
        self._catalogue = Catalogue({}, ())

    def load(self) -> None:
        """Read the templates as they are now, without looking at their statements. Blocking."""
        self._catalogue = load_templates(self._folder, self._database)

    async def check(self) -> None:
        """Log what is wrong with which of the user's files; the others can be run.

        Ours are checked before a release, but for one: the first query then finds the parser loaded. Takes some 40 ms
        of work for each template.
        """
        for problem in self._catalogue.problems:
            log.warning("a template is left out: %s", problem)
        ours = list(load_templates().templates.values())[1:]
        for name, template in self._catalogue.templates.items():
            if template in ours:
                continue
            try:
                problems = await to_thread.run_sync(check_templates, Catalogue({name: template}, ()))
            except Exception:  # the others must be served
                log.exception("the template %s cannot be checked", name)
                continue
            for problem in problems:
                log.warning("a template cannot be run: %s", problem)

    def query(self, ticket: Ticket, folder: Path) -> Query:
        """The query of a ticket, to be run in a folder. Blocking.

        A template that is not the one of the ticket is read anew, for a server may know a newer one.

        Raises:
            QueryFailedError: there is no such template (any more).
        """
        found = self._find(ticket)
        if found is None:
            self.load()
            found = self._find(ticket)
        if found is None:
            known = ticket.template in self._catalogue.templates
            reason = "changed since this was asked; ask again" if known else "is not known to the uploader"
            raise QueryFailedError(f"the template {ticket.template} {reason}")
        template, parameters = found
        limits = self._limits
        return Query(
            template,
            parameters,
            ticket.customer,
            ticket.customers,
            datetime.fromisoformat(ticket.submitted_at),
            tag=ticket.query_tag,
            limit_s=limits.time_limit_s + MARGIN_S,
            row_cap=min(template.row_limit, limits.row_cap),
            byte_cap=limits.byte_cap if ticket.byte_cap is None else min(ticket.byte_cap, limits.byte_cap),
            folder=folder,
        )

    def _find(self, ticket: Ticket) -> tuple[Template, dict[str, object]] | None:
        """The template and its parameters, checked once more; None when the ticket was made for another text."""
        template = self._catalogue.templates.get(ticket.template)
        if template is None:
            return None
        try:
            parameters = checked_parameters(template, orjson.loads(ticket.params))
        except (ParameterError, ValueError):
            return None
        return (template, parameters) if query_hash(template, parameters) == ticket.query_hash else None
