"""docs/security.md: what it says is shown by a test is shown by one that there is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_and_module_that_it_names_is_there() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    tests = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    modules = {path.name for path in (*ROOT.glob("*/snowledger*/**/*.py"), *(ROOT / "cli").rglob("*.py"))}
    files = set(re.findall(r"\b(\w+\.py)\b", text))
    assert len(files) > 10
    assert sorted(files - tests.keys() - modules) == []
    functions = set(re.findall(r"`(test_\w+)`", text))
    assert [name for name in functions if not any(f"def {name}(" in content for content in tests.values())] == []
