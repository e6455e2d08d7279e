"""The text of the unit: what systemd itself says of it, and that a value is never taken for syntax."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tests.cli.cli_process import CONFIGURING

from snowledger.errors import CommandError
from snowledger.settings import load_settings
from snowledger.systemd_unit import CONNECTIONS, SYSTEM_HOME, UNIT, unit_text

ROOT = Path(__file__).parents[2]
SNOWFLAKE: dict[str, Any] = {"warehouse": "snowflake", "snow_connection": "claude_logs"}
EXPOSURE = 2.0
"""On systemd's scale from 0 (safe) to 10."""

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze, which checks units, is not on this machine"
)


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(CONFIGURING):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def program(tmp_path: Path) -> str:
    """Something to run, at a path that has to be quoted: verify looks whether it is there."""
    path = tmp_path / "my 50% tools" / "snowledger"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def unit(
    *command: str, user: bool = False, home: Path = SYSTEM_HOME, credentials: Sequence[Path] = (), **settings: Any
) -> str:
    return unit_text(load_settings(home=home, **settings), command, [CONNECTIONS, *credentials], user=user)


def analyze(folder: Path, *arguments: str, text: str) -> subprocess.CompletedProcess[str]:
    file = folder / UNIT
    file.write_text(text)
    return subprocess.run(
        ["systemd-analyze", *arguments, file],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "XDG_RUNTIME_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def verify(folder: Path, text: str, *arguments: str) -> tuple[int, str]:
    done = analyze(folder, *arguments, "verify", "--man=no", "--recursive-errors=no", text=text)
    return done.returncode, done.stdout + done.stderr


def test_the_unit_beside_the_uploader_is_what_the_command_writes() -> None:
    example = ROOT / "uploader" / "systemd" / UNIT
    assert example.read_text(encoding="utf-8") == unit("/opt/snowledger/bin/snowledger", **SNOWFLAKE)


def test_the_parts_of_the_unit_are_data_of_the_package() -> None:
    names = {part.name for part in (files("snowledger") / "systemd").iterdir()}
    assert names == {"uploader.service", "system.service", "user.service"}


@needs_analyze
@pytest.mark.parametrize("settings", [{}, SNOWFLAKE], ids=["duckdb", "snowflake"])
@pytest.mark.parametrize("home", [SYSTEM_HOME, Path("/srv/my 50% spool;#é")], ids=["usual", "odd"])
def test_systemd_has_nothing_to_say_against_the_service_of_the_machine(
    settings: dict[str, Any], home: Path, program: str, tmp_path: Path
) -> None:
    text = unit(program, home=home, credentials=[Path("/etc/my keys 1%/a key.p8")], **settings)
    assert verify(tmp_path, text) == (0, "")


@needs_analyze
def test_systemd_has_nothing_to_say_against_the_service_of_a_user(program: str, tmp_path: Path) -> None:
    text = unit(program, "-P", "-m", "snowledger", user=True, home=Path("/home/me/my 50% spool"))
    assert verify(tmp_path, text, "--user") == (0, "")


@needs_analyze
def test_systemd_would_say_so(program: str, tmp_path: Path) -> None:
    text = unit(program).replace("ProtectSystem=", "ProtectSytem=")
    code, said = verify(tmp_path, text)
    assert code != 0
    assert "Unknown key" in said


@needs_analyze
@pytest.mark.parametrize("settings", [{}, SNOWFLAKE], ids=["duckdb", "snowflake"])
def test_the_service_of_the_machine_is_hardly_exposed(settings: dict[str, Any], tmp_path: Path) -> None:
    done = analyze(tmp_path, "security", "--offline=true", "--no-pager", text=unit("/bin/true", **settings))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE


def test_a_file_needs_no_network_and_no_credential_and_snowflake_both() -> None:
    duckdb, snowflake = unit("/bin/true"), unit("/bin/true", **SNOWFLAKE)
    assert "\nPrivateNetwork=yes\n" in duckdb
    assert "LoadCredential" not in duckdb
    assert "PrivateNetwork" not in snowflake
    assert f"\nLoadCredential=connections.toml:{CONNECTIONS}\n" in snowflake
    assert "\nEnvironment=SNOWFLAKE_HOME=%d\n" in snowflake  # where systemd puts it


def test_only_what_the_uploader_reads_and_what_differs_goes_into_the_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNOWLEDGER_CUSTOMER", "acme")
    monkeypatch.setenv("SNOWLEDGER_QUERY_CONCURRENCY", "2")  # the default
    monkeypatch.setenv("SNOWLEDGER_QUERY_BYTE_CAP", "1MiB")
    lines = unit("/bin/true", duckdb_path=Path("/srv/data/w.duckdb")).splitlines()
    assert [line for line in lines if line.startswith("Environment=")] == [
        "Environment=SNOWLEDGER_HOME=/var/lib/snowledger",
        "Environment=SNOWLEDGER_DUCKDB_PATH=/srv/data/w.duckdb",
        "Environment=SNOWLEDGER_QUERY_BYTE_CAP=1048576",
    ]
    assert "ReadWritePaths=/srv/data" in lines


@pytest.mark.parametrize("user", [False, True])
def test_a_percent_sign_is_no_specifier_and_a_space_ends_no_word(user: bool) -> None:
    lines = unit("/opt/50%/a b", home=Path("/srv/%h x"), user=user).splitlines()
    assert 'ExecStart="/opt/50%%/a b" upload' in lines
    assert 'Environment="SNOWLEDGER_HOME=/srv/%%h x"' in lines
    assert ('ReadWritePaths="/srv/%%h x"' in lines) is not user


@pytest.mark.parametrize("odd", ["two\nUser=root", "tab\t", 'a"b', "it's", "back\\slash", "$HOME", "\udcff"])
def test_what_no_unit_can_hold_is_refused(odd: str) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        (f"/opt/{odd}/snowledger", {}),
        ("/bin/true", {"home": Path(f"/srv/{odd}")}),
        ("/bin/true", {"credentials": [Path(f"/etc/{odd}/key.p8")]}),
    ]
    for command, values in cases:
        with pytest.raises(CommandError, match="is not accepted in a systemd unit; accepted: printable"):
            unit(command, **SNOWFLAKE, **values)


def test_snowflake_s_connections_must_be_among_the_credentials() -> None:
    settings = load_settings(home=SYSTEM_HOME, **SNOWFLAKE)
    with pytest.raises(CommandError, match=r"no --credential is named connections\.toml"):
        unit_text(settings, ["/bin/true"], [Path("/etc/key.p8")], user=False)
    with pytest.raises(CommandError, match="accepted: a file without : in its name"):
        unit("/bin/true", credentials=[Path("/etc/a:b")], **SNOWFLAKE)
