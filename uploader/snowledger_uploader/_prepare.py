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

log = logging.getLogger(__name__)


class Preparation:
    """The templates, and what is made of them."""

    def __init__(self, folder: Path | None, row_cap: int, byte_cap: int) -> None:
        """``folder`` holds the user's templates."""
        self._folder = folder
        self._row_cap = row_cap
        self._byte_cap = byte_cap
        self._catalogue = Catalogue({}, ())

    def load(self) -> None:
        """Read the templates as they are now, without looking at their statements. Blocking."""
        self._catalogue = load_templates(self._folder)

    async def check(self) -> None:
        """Log what is wrong with which file; the others can be run. Takes some 40 ms of work for each template."""
        for problem in self._catalogue.problems:
            log.warning("a template is left out: %s", problem)
        for name, template in self._catalogue.templates.items():
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
        return Query(
            template,
            parameters,
            ticket.customer,
            ticket.customers,
            datetime.fromisoformat(ticket.submitted_at),
            row_cap=min(template.row_limit, self._row_cap),
            byte_cap=self._byte_cap if ticket.byte_cap is None else min(ticket.byte_cap, self._byte_cap),
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
