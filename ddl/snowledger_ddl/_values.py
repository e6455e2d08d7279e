"""One value of a parameter: what is accepted, its normal form in JSON, and what is bound for it.

Normal forms, by which two calls are the same query: an interval is whole seconds, a number a float, a timestamp text in
UTC with microseconds. Checks are strict about JSON types: ``true`` is no integer, and neither is ``"7"``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from ._template import Parameter

MAX_LENGTH = 1000
"""Characters of a string, unless the parameter says otherwise."""

MAX_ITEMS = 100
"""Items of a list, unless the parameter says otherwise."""

MAX_INTEGER = 2**53 - 1
"""Beyond it JSON consumers disagree."""

MAX_INTERVAL_S = 3650 * 86400
"""Ten years: far beyond any stream, and safe to take from any date."""

_UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_SHOWN_UNITS = ("d", "h", "m", "s")
_INTERVAL = re.compile(r"([0-9]{1,10})([wdhms])")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?"
)

_SHOWN_CHARACTERS = 60
_SHOWN_ITEMS = 5
"""How much of what was sent an error repeats."""


class _Kind(NamedTuple):
    noun: str
    normal: Callable[[Any], Any]
    """The normal form; raises ValueError or TypeError."""
    bound: Callable[[Any], Any]
    schema: dict[str, object]
    has_bounds: bool = False


def checked_value(parameter: Parameter, value: object) -> Any:
    """The value's normal form.

    Raises:
        ValueError: it is not accepted; the message says why and what is.
    """
    if parameter.type == "list":
        return _checked_list(parameter, value)
    try:
        normal = KINDS[parameter.type].normal(value)
    except (TypeError, ValueError, OverflowError):
        raise _refusal(parameter, value) from None
    low, high = parameter.minimum, parameter.maximum
    if (low is not None and normal < low) or (high is not None and normal > high):
        raise _refusal(parameter, value)
    if parameter.type == "string" and len(normal) > _max_length(parameter):
        raise _refusal(parameter, value)
    if parameter.type == "enum" and normal not in parameter.values:
        raise _refusal(parameter, value)
    return normal


def bound_value(parameter: Parameter, normal: Any) -> Any:
    """What is bound for a normal form: a timestamp becomes a ``datetime`` in UTC without zone, a date a ``date``."""
    if parameter.type == "list":
        item = item_of(parameter)
        return [bound_value(item, one) for one in normal]
    return KINDS[parameter.type].bound(normal)


def accepted(parameter: Parameter) -> str:
    """What is accepted, in words."""
    if parameter.type == "list":
        return f"a list of at most {_max_items(parameter)} items, each {accepted(item_of(parameter))}"
    noun = KINDS[parameter.type].noun
    if parameter.type == "enum":
        return f"one of {', '.join(parameter.values)}"
    if parameter.type == "string":
        return f"{noun} of at most {_max_length(parameter)} characters without NUL"
    low, high = (shown(parameter, bound) for bound in (parameter.minimum, parameter.maximum))
    if parameter.minimum is not None and parameter.maximum is not None:
        return f"{noun} from {low} to {high}"
    if parameter.minimum is not None:
        return f"{noun} from {low}"
    return f"{noun} up to {high}" if parameter.maximum is not None else noun


def json_schema(parameter: Parameter) -> dict[str, object]:
    """``Parameter.json_schema``."""
    schema: dict[str, object]
    if parameter.type == "list":
        of_items = json_schema(replace(item_of(parameter), description="", required=True, default=None))
        schema = {"type": "array", "items": of_items, "maxItems": _max_items(parameter)}
    else:
        schema = dict(KINDS[parameter.type].schema)
    if parameter.type == "enum":
        schema["enum"] = list(parameter.values)
    if parameter.type == "string":
        schema["maxLength"] = _max_length(parameter)
    description = parameter.description
    if parameter.type in {"integer", "number"}:
        bounds = {"minimum": parameter.minimum, "maximum": parameter.maximum}
        schema |= {key: bound for key, bound in bounds.items() if bound is not None}
    elif parameter.type in {"interval", "date", "timestamp"}:
        # JSON Schema has no bounds for these.
        description = f"{description} Accepted: {accepted(parameter)}.".lstrip()
    if description:
        schema["description"] = description
    if not parameter.required:
        schema["default"] = _default_shown(parameter)
    return schema


def shown(parameter: Parameter, normal: Any) -> str:
    """A normal form as somebody would write it."""
    if parameter.type != "interval" or normal is None:
        return str(normal)
    unit = next(unit for unit in _SHOWN_UNITS if normal % _UNITS[unit] == 0)
    return f"{normal // _UNITS[unit]}{unit}"


def item_of(parameter: Parameter) -> Parameter:
    """What each item of a list must be."""
    return replace(parameter, type=parameter.items or "", items=None)


def _checked_list(parameter: Parameter, value: object) -> list[Any]:
    if not isinstance(value, list | tuple) or len(value) > _max_items(parameter):
        raise _refusal(parameter, value)
    item = item_of(parameter)
    normal, wrong = [], []
    for index, one in enumerate(value):
        try:
            normal.append(checked_value(item, one))
        except ValueError:
            wrong.append(f"item {index} is {_repeated(one)}")
    if wrong:
        more = f" and {len(wrong) - _SHOWN_ITEMS} more" if len(wrong) > _SHOWN_ITEMS else ""
        raise ValueError(f"{', '.join(wrong[:_SHOWN_ITEMS])}{more}; accepted: {accepted(parameter)}")
    return normal


def _refusal(parameter: Parameter, value: object) -> ValueError:
    return ValueError(f"{_repeated(value)} is not accepted; accepted: {accepted(parameter)}")


def _repeated(value: object) -> str:
    """The value for a message: bounded, and in ASCII, so that a look-alike shows and nothing upsets a terminal."""
    if isinstance(value, list | tuple | dict):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "an integer beyond 2^53"  # its digits may be too many to print
    text = ascii(value[:_SHOWN_CHARACTERS] if isinstance(value, str) else value)
    cut = isinstance(value, str) and len(value) > _SHOWN_CHARACTERS
    return f"{text[:_SHOWN_CHARACTERS]}…" if cut or len(text) > _SHOWN_CHARACTERS else text


def _default_shown(parameter: Parameter) -> object:
    if parameter.type == "interval":
        return shown(parameter, parameter.default)
    if parameter.type == "list" and parameter.items == "interval":
        assert isinstance(parameter.default, list)  # noqa: S101 - as checked_value made it
        return [shown(item_of(parameter), one) for one in parameter.default]
    return parameter.default


def _max_length(parameter: Parameter) -> int:
    return MAX_LENGTH if parameter.max_length is None else parameter.max_length


def _max_items(parameter: Parameter) -> int:
    return MAX_ITEMS if parameter.max_items is None else parameter.max_items


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
    if "\0" in value:
        raise ValueError
    return value


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    if abs(value) > MAX_INTEGER:
        raise ValueError
    return value


def _number(value: Any) -> float:
    if type(value) not in {int, float}:
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number + 0.0  # -0.0 and 0.0 are one number


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _interval(value: Any) -> int:
    if isinstance(value, str):
        match = _INTERVAL.fullmatch(value)
        if match is None:
            raise ValueError
        value = int(match[1]) * _UNITS[match[2]]
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    seconds = _integer(value)
    if not 0 < seconds <= MAX_INTERVAL_S:
        raise ValueError
    return seconds


def _date(value: Any) -> str:
    if _DATE.fullmatch(value) is None:
        raise ValueError
    return date.fromisoformat(value).isoformat()


def _timestamp(value: Any) -> str:
    if _TIMESTAMP.fullmatch(value) is None:
        raise ValueError
    moment = datetime.fromisoformat(value)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _bound_timestamp(normal: str) -> datetime:
    # The columns are UTC without a zone; one with a zone would be compared in the session's.
    return datetime.fromisoformat(normal).replace(tzinfo=None)


def _same(normal: Any) -> Any:
    return normal


_INTERVAL_SCHEMA: dict[str, object] = {
    "type": ["string", "integer"],
    "pattern": "^[0-9]{1,10}[wdhms]$",
    "minimum": 1,
}

KINDS = {
    "string": _Kind("text", _text, _same, {"type": "string"}),
    "integer": _Kind("an integer", _integer, _same, {"type": "integer"}, has_bounds=True),
    "number": _Kind("a finite number", _number, _same, {"type": "number"}, has_bounds=True),
    "boolean": _Kind("true or false", _boolean, _same, {"type": "boolean"}),
    "timestamp": _Kind(
        "a time such as 2026-11-21T04:20:47Z (UTC without an offset)",
        _timestamp,
        _bound_timestamp,
        {"type": "string", "format": "date-time"},
        has_bounds=True,
    ),
    "date": _Kind(
        "a date such as 2026-11-21", _date, date.fromisoformat, {"type": "string", "format": "date"}, has_bounds=True
    ),
    "interval": _Kind(
        "an interval such as 90s, 15m, 24h, 7d, 2w or a whole number of seconds",
        _interval,
        _same,
        _INTERVAL_SCHEMA,
        has_bounds=True,
    ),
    "enum": _Kind("one of several words", _text, _same, {"type": "string"}),
}
"""The types that a single value can have."""
