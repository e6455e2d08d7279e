import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
WHEEL = f"snowledger-{VERSION}-py3-none-any.whl"
SDIST = f"snowledger-{VERSION}.tar.gz"
PACKAGES = {"snowledger", "snowledger_ddl", "snowledger_queue", "snowledger_server", "snowledger_uploader"}
PRINT_ORIGINS = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name).__file__)"


def run(*command: str | Path) -> str:
    # Neither the caller's path nor the repository may lend a module that the archive lacks.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=ROOT.anchor, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    # The wheel is built from the unpacked source archive, so the archive is known to be complete.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


def test_wheel_holds_the_five_packages_and_their_type_markers(dist: Path) -> None:
    names = zipfile.ZipFile(dist / WHEEL).namelist()
    assert {name.split("/")[0] for name in names} == PACKAGES | {f"snowledger-{VERSION}.dist-info"}
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)


def test_wheel_holds_the_parts_of_the_systemd_unit(dist: Path) -> None:
    names = set(zipfile.ZipFile(dist / WHEEL).namelist())
    assert {f"snowledger/systemd/{part}.service" for part in ("uploader", "system", "user")} <= names


def test_sdist_holds_what_a_packager_needs(dist: Path) -> None:
    with tarfile.open(dist / SDIST) as archive:
        names = {name.split("/", 2)[1] for name in archive.getnames()}
    assert {"LICENSE", "Makefile", "README.md", "bench", "docs", "requirements.lock", "tests"} <= names
    assert names.isdisjoint({".git", ".venv"})


@pytest.mark.parametrize("archive", [WHEEL, SDIST])
def test_installs_into_a_clean_environment(archive: str, dist: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False, symlinks=os.name != "nt")
    paths = sysconfig.get_paths("venv", vars={"base": str(environment), "platbase": str(environment)})
    python = Path(paths["scripts"]) / Path(sys.executable).name

    # Dependencies are lent by this environment. Its editable install is not: .pth files of a folder that a
    # .pth file names are not read.
    (Path(paths["purelib"]) / "lent.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index")
    run(*pip, "--ignore-installed", "--no-deps", "--no-build-isolation", dist / archive)

    assert run(Path(paths["scripts"]) / "snowledger", "--version") == f"snowledger {VERSION}"
    origins = run(python, "-c", PRINT_ORIGINS, *sorted(PACKAGES)).splitlines()
    assert all(Path(origin).is_relative_to(environment) for origin in origins)
