"""The query templates as a model reads them: in short for a tool's description, and whole as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from ._tool import object_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snowledger_ddl import Parameter, Template

MAX_LISTED_BYTES = 4_800
"""Of a description, for the templates: some 1,200 tokens, which every conversation pays for. Ours take less."""


def listed(templates: Mapping[str, Template]) -> str:
    """One line for each template, with what it answers and its parameters (name: type = default).

    Those that find no room are only named.
    """
    lines: list[str] = []
    rest: list[str] = []
    used = 0
    for template in templates.values():
        line = f"- {template.name}: {template.answers} ({', '.join(map(_in_short, template.parameters)) or 'none'})"
        size = len(line.encode()) + 1
        if rest or used + size > MAX_LISTED_BYTES:
            rest.append(template.name)
        else:
            lines.append(line)
            used += size
    if rest:
        lines.append(f"- described in the resource snowledger://templates: {', '.join(rest)}")
    return "\n".join(lines)


def catalogue(templates: Mapping[str, Template]) -> bytes:
    """All of it, as JSON."""
    return orjson.dumps(
        {
            "templates": [
                {
                    "name": template.name,
                    "answers": template.answers,
                    "scope": template.scope,
                    "parameters": parameters_schema(template),
                    "example": dict(template.example),
                    "row_limit": template.row_limit,
                }
                for template in templates.values()
            ]
        }
    )


def parameters_schema(template: Template) -> dict[str, Any]:
    """What ``params`` must be, as JSON Schema."""
    return object_schema(
        {parameter.name: parameter.json_schema() for parameter in template.parameters},
        required=[parameter.name for parameter in template.parameters if parameter.required],
    )


def _in_short(parameter: Parameter) -> str:
    kind = f"list of {parameter.items}" if parameter.type == "list" else parameter.type
    if "enum" in kind:
        kind = kind.replace("enum", "|".join(parameter.values))
    if parameter.required:
        return f"{parameter.name}: {kind}"
    default = parameter.json_schema()["default"]
    shown = default if isinstance(default, str) and default else orjson.dumps(default).decode()
    return f"{parameter.name}: {kind} = {shown}"
