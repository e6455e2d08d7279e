"""The parameters of a call: checked all at once, bound as values, and hashed with the template."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ._errors import ParameterError
from ._placeholders import placeholders
from ._template import Parameter, Template
from ._values import accepted, bound_value, checked_value, item_of

_SHOWN_UNKNOWN = 10
"""How many unknown names an error repeats."""

_SHOWN_NAME = 64
"""How much of an unknown name it repeats: as much as a parameter's name can have."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}([.][0-9]{0,40})?([eE][+-]?[0-9]{1,4})?")


def checked_parameters(template: Template, params: Mapping[str, object]) -> dict[str, object]:
    """Every parameter of the template in normal form, defaults filled in: JSON values.

    Raises:
        ParameterError: with everything that is wrong: unknown names, missing parameters and values.
    """
    known = {parameter.name: parameter for parameter in template.parameters}
    problems = _unknown([name for name in params if name not in known], known)
    checked: dict[str, object] = {}
    for name, parameter in known.items():
        if name in params:
            try:
                checked[name] = checked_value(parameter, params[name])
            except ValueError as error:
                problems.append((name, str(error)))
        elif parameter.required:
            problems.append((name, f"is missing; accepted: {accepted(parameter)}"))
        else:
            default = parameter.default
            checked[name] = list(default) if isinstance(default, list) else default
    if problems:
        raise ParameterError(tuple(problems))
    return checked


def bound_parameters(template: Template, checked: Mapping[str, object]) -> dict[str, Any]:
    """What is bound for checked parameters: see ``bound_value``. The reserved ones are not among them."""
    return {parameter.name: bound_value(parameter, checked[parameter.name]) for parameter in template.parameters}


def reserved_parameters(
    template: Template, *, customer: str, customers: Sequence[str], now: datetime, dialect: str = "duckdb"
) -> dict[str, Any]:
    """What is bound for the reserved placeholders of the executable text; for those that it has, and no more.

    ``customers`` are the ticket's own customer and the allowed ones; ``now`` is an aware time.
    """
    values = {
        "customer": customer,
        "customers": list(customers),
        "now": now.astimezone(UTC).replace(tzinfo=None),
    }
    used = {one.name for one in placeholders(template.dialect_texts.get(dialect, template.text))}
    return {name: value for name, value in values.items() if name in used | {template.isolated_by}}


def query_hash(template: Template, checked: Mapping[str, object]) -> str:
    """SHA-256, in hex, over the template's name, its text and the parameters in normal form."""
    canonical = json.dumps(checked, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(f"{template.name}\n{template.text}\n{canonical}".encode()).hexdigest()


def parse_parameter_text(template: Template, name: str, text: str) -> object:
    """What somebody means who writes ``name=text`` on a command line; still to be checked.

    A list is a JSON array or items between commas; empty text is an empty list. What cannot be read stays text, which
    the check then refuses or, for an unknown name, never looks at.
    """
    parameter = next((one for one in template.parameters if one.name == name), None)
    return text if parameter is None else _parsed(parameter, text)


def _parsed(parameter: Parameter, text: str) -> object:
    word = text.strip()
    match parameter.type:
        case "integer" | "interval" if _INTEGER.fullmatch(word):
            return int(word)
        case "number" if _NUMBER.fullmatch(word):
            return float(word)
        case "boolean" if word.lower() in {"true", "false"}:
            return word.lower() == "true"
        case "list":
            return _parsed_list(parameter, word)
        case "string" | "enum":
            return text
        case _:
            return word


def _parsed_list(parameter: Parameter, word: str) -> object:
    if word.startswith("["):
        try:
            return json.loads(word)
        except (ValueError, RecursionError):
            return word
    item = item_of(parameter)
    return [_parsed(item, one.strip()) for one in word.split(",")] if word else []


def _unknown(names: Sequence[object], known: Mapping[str, Parameter]) -> list[tuple[str, str]]:
    if not names:
        return []
    takes = f"accepted: {', '.join(known)}" if known else "this template takes none"
    problems = [(_shortened(name), f"is no parameter of this template; {takes}") for name in names[:_SHOWN_UNKNOWN]]
    if len(names) > _SHOWN_UNKNOWN:
        problems.append(("…", f"and {len(names) - _SHOWN_UNKNOWN} more names that are no parameters"))
    return problems


def _shortened(name: object) -> str:
    text = ascii(name)[1:-1] if isinstance(name, str) else ascii(name)
    return text if len(text) <= _SHOWN_NAME else f"{text[:_SHOWN_NAME]}…"
