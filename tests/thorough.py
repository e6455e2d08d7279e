"""How long tests search: briefly in the suite, ten times as long and in all variants with `make test-thorough`."""

import os

THOROUGH = os.environ.get("SNOWLEDGER_THOROUGH") == "1"


def examples(count: int) -> int:
    """The number of examples of a property test."""
    return 10 * count if THOROUGH else count


def variants(first: str, *others: str) -> list[str]:
    """Cases that take long and differ little: in the suite the first alone."""
    return [first, *others] if THOROUGH else [first]
