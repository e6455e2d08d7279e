import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_import_queue_is_the_standard_library_from_the_repository_root() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", "import queue; print(queue.__file__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(printed.strip()).parent == Path(sysconfig.get_path("stdlib"))


@pytest.mark.parametrize("folder", ["cli", "ddl", "mcp_server", "queue", "tests", "uploader"])
def test_component_and_test_folders_are_not_packages(folder: str) -> None:
    path = ROOT / folder
    assert path.is_dir()
    found = path.rglob("__init__.py") if folder == "tests" else path.glob("__init__.py")
    assert list(found) == []


@pytest.mark.parametrize("file", ["requirements.lock", "tests/fake_snowflake/requirements.lock"])
def test_lock_file_pins_every_package_by_hash_and_names_no_host(file: str) -> None:
    lock = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(r"://|@|^-|\b[\w-]+\.(org|com|io|net)\b", lock, re.MULTILINE) is None
    entries = [entry for entry in re.split(r"\n(?=\S)", lock) if not entry.startswith("#")]
    pinned = re.compile(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}\b", re.DOTALL)
    assert [entry for entry in entries if not pinned.match(entry)] == []


@pytest.mark.parametrize("name", [Requirement(line).name for line in PROJECT["dependencies"]])
def test_architecture_says_why_each_dependency_is_there(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
