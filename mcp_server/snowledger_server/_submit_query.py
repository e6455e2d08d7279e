"""The tool ``submit_query``: asks for a query and does not wait for it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import mcp_types as types

from snowledger_ddl import ParameterError

from ._errors import InvalidArgumentError
from ._templates import listed
from ._tool import Call, Tool, object_schema

if TYPE_CHECKING:
    from snowledger_ddl import Template

    from ._journal import Journal
    from ._queries import Queries

LEAST_CAP, MOST_CAP = 1024, 1024**3
"""Bytes: an empty result has some hundred, and the uploader's own limit comes before the other."""

MOST_AGE_S = 86_400
"""A day."""

_MAX_SHOWN = 64
"""Characters of an unknown name that its error repeats: as many as a name may have."""

_DESCRIPTION = (
    "Ask the company's activity stream: run one of the query templates below, in the background. Returns a ticket_id "
    "in milliseconds; then call get_result with it and with wait_s. Put the template's parameters into params; those "
    "with a default (after =) may be left out; an interval is text such as 15m, 24h or 7d. Only data of your own "
    "customer is read, and of others only what you may read. When you log_insight what you learnt, cite the "
    "query_hash. If the same query is queued or running already, or was finished within max_age_s, its ticket is "
    "returned (reused).\nTemplates (parameters: name: type = default):\n"
)


def _definition(templates: Mapping[str, Template]) -> types.Tool:
    return types.Tool(
        name="submit_query",
        title="Run a query",
        description=_DESCRIPTION + listed(templates),
        input_schema=object_schema(
            {
                "template": {"type": "string", "enum": list(templates), "description": "Which query."},
                "params": {
                    "type": "object",
                    "default": {},
                    "description": "Its parameters by name, as listed above.",
                    "examples": [dict(template.example) for template in list(templates.values())[:1]],
                },
                "byte_cap": {
                    "type": "integer",
                    "minimum": LEAST_CAP,
                    "maximum": MOST_CAP,
                    "description": "Cut the result off at about so many bytes; without it, at the uploader's limit.",
                },
                "max_age_s": {
                    "type": "number",
                    "minimum": 0,
                    "maximum": MOST_AGE_S,
                    "default": 0,
                    "description": "Take the result of the same query if it is not older than so many seconds.",
                },
            },
            required=["template"],
        ),
        output_schema=object_schema(
            {
                "ticket_id": {"type": "string", "description": "For get_result and cancel_query."},
                "status": {"type": "string", "enum": ["queued", "running", "succeeded"]},
                "query_hash": {
                    "type": "string",
                    "description": "Names the template, its text and the parameters; cite it in log_insight.",
                },
                "reused": {"type": "boolean", "description": "Whether the ticket is of an earlier call."},
                "position": {
                    "type": ["integer", "null"],
                    "description": "How many queries come before it; null when it is not queued.",
                },
            },
            required=["ticket_id", "status", "query_hash", "reused", "position"],
        ),
        annotations=types.ToolAnnotations(
            read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
        ),
    )


def submit_query_tool(queries: Queries, journal: Journal) -> Tool:
    """The tool; the journal knows whether the disk has room for a ticket and a result.

    Its call raises:
        InvalidArgumentError: a wrong argument; of the parameters, all that are wrong.
        snowledger_queue.KillSwitchError, snowledger_queue.TooManyTicketsError: it was not taken.
        snowledger_queue.QueueFullError: the disk is nearly full.
        snowledger_queue.StateError: it could not be noted.
    """

    async def run(call: Call) -> dict[str, object]:
        arguments = call.arguments
        template = _template(queries.templates, arguments["template"])
        byte_cap = _byte_cap(arguments.get("byte_cap"))
        max_age_s = number(arguments, "max_age_s", MOST_AGE_S)
        journal.require_disk()
        try:
            ticket, reused = await queries.submit(
                call.caller.identity,
                template,
                _params(arguments.get("params")),
                byte_cap=byte_cap,
                max_age_s=max_age_s,
                query_tag=call.query_tag,
            )
        except ParameterError as error:
            raise InvalidArgumentError("params", f"{template.name} does not take these: {error}") from None
        return {
            "ticket_id": ticket.ticket_id,
            "status": ticket.status,
            "query_hash": ticket.query_hash,
            "reused": reused,
            "position": ticket.position,
        }

    return Tool(_definition(queries.templates), run)


def number(arguments: Mapping[str, object], field: str, most: float) -> float:
    """A number from 0 to ``most``; 0 when it is left out."""
    value = arguments.get(field)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise InvalidArgumentError(field, f"accepted is a number of seconds from 0 to {most}")
    return value


def _template(templates: Mapping[str, Template], name: object) -> Template:
    names = f"the templates are {', '.join(templates)}"
    if not isinstance(name, str):
        raise InvalidArgumentError("template", f"must be a string, not {type(name).__name__}; {names}")
    template = templates.get(name)
    if template is None:
        shown = name[:_MAX_SHOWN]
        closest = difflib.get_close_matches(shown.lower(), templates, n=1, cutoff=0.3)
        meant = f", did you mean {closest[0]}?" if closest else ""
        raise InvalidArgumentError("template", f"there is no {shown!a}{meant or ';'} {names}")
    return template


def _params(value: object) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidArgumentError("params", f"must be a JSON object, not {type(value).__name__}")
    return value


def _byte_cap(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not LEAST_CAP <= value <= MOST_CAP:
        raise InvalidArgumentError("byte_cap", f"accepted is a whole number from {LEAST_CAP} to {MOST_CAP}")
    return value
