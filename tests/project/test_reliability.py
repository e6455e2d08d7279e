"""docs/reliability.md: every fault has its row, and every test that a row names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
FAULTS = 54
ROW = re.compile(r"\| (\d+) \| ([^|]+) \|([^|]*)\|([^|]*)\|\n")
TEST = re.compile(r"`([a-z0-9_]+\.py)::(test_\w+)`")


def rows() -> dict[int, tuple[str, str]]:
    """What happens, and the tests, of each fault."""
    return {int(number): (happens.strip(), tests.strip()) for number, _, happens, tests in ROW.findall(TEXT)}


def test_every_fault_has_its_row_and_none_is_empty() -> None:
    found = rows()
    assert list(found) == list(range(1, FAULTS + 1))
    assert [number for number, row in found.items() if not all(row)] == []


def test_every_test_that_a_row_names_is_there() -> None:
    named = set(TEST.findall(TEXT))
    there = {
        (path.name, name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert sorted(named - there) == []
    assert all(TEST.sub("", tests).replace(",", "").strip() == "" for _, tests in rows().values())
