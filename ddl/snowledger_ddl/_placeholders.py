"""The placeholders of a statement, found without a SQL parser, which the server does not have.

Strings, quoted names and comments are skipped. The check of templates sees to it that a parser agrees.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?> '(?:[^']|'')*' | "[^"]*" | --[^\n]* | /\*.*?\*/ ) | (?P<placeholder> \$ [\w$]* )""",
    re.DOTALL | re.VERBOSE,
)


class Placeholder(NamedTuple):
    """``$name`` in line ``line`` of the text, from 1. The name is whatever follows: ``$1`` and ``$$`` show too."""

    name: str
    line: int


def placeholders(text: str) -> list[Placeholder]:
    """Every placeholder, in order."""
    return [
        Placeholder(match["placeholder"][1:], text.count("\n", 0, match.start()) + 1)
        for match in _TOKEN.finditer(text)
        if match["placeholder"]
    ]


def with_names(text: str, prefix: str) -> str:
    """The text with the name ``prefix`` + ``name`` for each ``$name``, on the same lines."""
    return _TOKEN.sub(
        lambda match: prefix + match["placeholder"][1:] if match["placeholder"] else match[0],
        text,
    )
