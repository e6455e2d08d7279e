"""What is said of a setting that is not accepted, or that there is not."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, ValidationError
from pydantic.fields import FieldInfo

MAX_SHOWN_CHARACTERS = 100
"""Enough of a wrong value to recognise it."""


def variables(field: FieldInfo) -> list[str]:
    """The environment variables that set a field, in order of precedence."""
    names = field.validation_alias
    assert isinstance(names, AliasChoices)  # noqa: S101 - by settings_values.setting
    return [str(name) for name in names.choices]


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """That there is no such thing, and what may have been meant."""
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
    return f"unknown {kind} {ascii(name)[1:-1][:MAX_SHOWN_CHARACTERS]} ({hint})"


def explain(
    error: ValidationError, fields: Mapping[str, FieldInfo], flags: Collection[str], file: Path | None, values: Any
) -> str:
    """The first wrong value, with where it comes from and what is accepted.

    ``flags`` are the fields that flags set, ``values`` what ``file`` sets.
    """
    first = next(found for found in error.errors() if found["type"] != "default_factory_not_called")
    named = str(first["loc"][0])
    name, field = next(one for one in fields.items() if named in (one[0], *variables(one[1])))
    value = first["input"]
    shown = ascii(str(value) if isinstance(value, Path) else value)
    if len(shown) > MAX_SHOWN_CHARACTERS:
        shown = f"{shown[:MAX_SHOWN_CHARACTERS]}..."
    variable = next((name for name in variables(field) if os.environ.get(name)), None)
    if name in flags:
        source = f"flag --{name.replace('_', '-')}"
    elif variable is not None:
        source = f"environment variable {variable}"
    elif name in values:
        source = f"setting {name} in {file}"
    else:
        source = f"default of {name} (set {variables(field)[0]})"
    return f"{source}: {shown} is not accepted; accepted: {field.description}"
