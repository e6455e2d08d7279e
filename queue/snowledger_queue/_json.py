"""JSON that every consumer of the stream reads the same way: strict parsing and strict values."""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import NoReturn

from ._errors import InvalidEventError

MAX_DEPTH = 64
"""Nesting that jq, DuckDB and Snowflake all read without trouble; real events use three or four levels."""

MAX_INTEGER = 2**53 - 1
"""Beyond this a double no longer keeps every integer (RFC 8259, section 6), and most JSON readers use doubles."""

_SURROGATE = re.compile("[\ud800-\udfff]")

_MAX_DIGITS = 400
"""Longer integers are out of range anyhow (a double ends at 309 digits), so they are cut before parsing."""


def check_value(value: object, field: str) -> None:
    """Check that a parsed JSON value survives any JSON consumer unchanged.

    Raises:
        InvalidEventError: naming the member, for anything that is not JSON, NaN or Infinity, integers outside
            ±(2^53 - 1), strings with a lone surrogate or NUL, and nesting over ``MAX_DEPTH``.
    """
    if not _is_plain(value, 0):
        _explain(value, field, 0)


def _is_plain(value: object, depth: int) -> bool:  # noqa: PLR0911 - one return for each JSON type
    """Whether ``_explain`` would find nothing: the same rules without the cost of naming members."""
    if isinstance(value, str):
        return _is_text(value)
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -MAX_INTEGER <= value <= MAX_INTEGER
    if isinstance(value, float):
        return isfinite(value)
    if depth >= MAX_DEPTH:
        return False
    if isinstance(value, list):
        return all(_is_plain(item, depth + 1) for item in value)
    return isinstance(value, dict) and all(
        isinstance(key, str) and _is_text(key) and _is_plain(member, depth + 1) for key, member in value.items()
    )


def _is_text(text: str) -> bool:
    return "\0" not in text and (text.isascii() or _SURROGATE.search(text) is None)


def _explain(value: object, field: str, depth: int) -> None:
    """Raise for the first thing that is wrong, with the path to it."""
    if isinstance(value, dict):
        _check_depth(field, depth)
        for key, member in value.items():
            if not isinstance(key, str):
                raise InvalidEventError(field, f"an object's keys must be strings, not {type(key).__name__}")
            check_text(key, field)
            _explain(member, f"{field}.{key}", depth + 1)
    elif isinstance(value, list):
        _check_depth(field, depth)
        for index, item in enumerate(value):
            _explain(item, f"{field}[{index}]", depth + 1)
    else:
        _explain_scalar(value, field)


def _explain_scalar(value: object, field: str) -> None:
    if isinstance(value, str):
        check_text(value, field)
    elif value is None or isinstance(value, bool):
        return
    elif isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise InvalidEventError(
                field, "the integer is outside ±9007199254740991 (2^53 - 1), where readers lose digits; send a string"
            )
    elif isinstance(value, float):
        if not isfinite(value):
            raise InvalidEventError(field, f"{value} is not JSON; send a finite number, null or a string")
    else:
        raise InvalidEventError(field, f"a {type(value).__name__} is not a JSON value")


def check_text(text: str, field: str) -> None:
    """Check that the text can be stored as UTF-8 everywhere.

    Raises:
        InvalidEventError: for a lone surrogate or a NUL character.
    """
    if "\0" in text:
        raise InvalidEventError(field, "the text has a NUL character (U+0000), which databases refuse; remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        problem = f"the text has a lone surrogate (U+{ord(text[error.start]):04X}) and is not Unicode; replace it"
        raise InvalidEventError(field, problem) from None


def parse_strict(text: bytes) -> object:
    """Parse one JSON text, refusing what most parsers let through.

    Raises:
        InvalidEventError: field ``json``, for bad UTF-8, malformed JSON, NaN or Infinity, a repeated key and
            nesting that the parser cannot follow. What ``check_value`` finds is left to it.
    """
    try:
        return json.loads(
            text.decode(),
            parse_constant=_refuse_constant,
            parse_int=lambda digits: int(digits[:_MAX_DIGITS]),
            object_pairs_hook=_unique_keys,
        )
    except UnicodeDecodeError as error:
        raise InvalidEventError("json", f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise InvalidEventError("json", f"not valid JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise InvalidEventError("json", f"nested deeper than {MAX_DEPTH} levels") from None


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidEventError("json", f"{name} is not JSON; use null or a string")


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for position, name in enumerate(names) if name in names[:position])
        raise InvalidEventError("json", f"the key {repeated[:60]!a} is there twice; readers would keep only one")
    return members


def _check_depth(field: str, depth: int) -> None:
    if depth >= MAX_DEPTH:
        # The dotted path would be as long as the nesting; its first member is enough to find it.
        raise InvalidEventError(field.split(".", 1)[0], f"nested deeper than {MAX_DEPTH} levels")
