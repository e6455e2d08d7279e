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
from snowledger.systemd_unit import (
    CONNECTIONS,
    LISTEN,
    SERVER,
    SOCKET,
    SYSTEM_HOME,
    UPLOADER,
    server_units,
    uploader_units,
)

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
    units = uploader_units(load_settings(home=home, **settings), command, [CONNECTIONS, *credentials], user=user)
    return units[UPLOADER]


def server(
    *command: str, user: bool = False, home: Path = SYSTEM_HOME, listen: Sequence[str] = (LISTEN,), **settings: Any
) -> dict[str, str]:
    return server_units(load_settings(home=home, **settings), command, listen, user=user)


def analyze(folder: Path, *arguments: str, units: dict[str, str]) -> subprocess.CompletedProcess[str]:
    for name, text in units.items():
        (folder / name).write_text(text)
    return subprocess.run(
        ["systemd-analyze", *arguments, *(folder / name for name in units)],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "XDG_RUNTIME_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def verify(folder: Path, units: dict[str, str], *arguments: str) -> tuple[int, str]:
    done = analyze(folder, *arguments, "verify", "--man=no", "--recursive-errors=no", units=units)
    return done.returncode, done.stdout + done.stderr


def test_the_unit_beside_the_uploader_is_what_the_command_writes() -> None:
    example = ROOT / "uploader" / "systemd" / UPLOADER
    assert example.read_text(encoding="utf-8") == unit("/opt/snowledger/bin/snowledger", **SNOWFLAKE)


def test_the_units_beside_the_server_are_what_the_command_writes() -> None:
    folder = ROOT / "mcp_server" / "systemd"
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert found == server("/opt/snowledger/bin/snowledger")


def test_the_parts_of_the_unit_are_data_of_the_package() -> None:
    names = {part.name for part in (files("snowledger") / "systemd").iterdir()}
    assert names == {
        *("uploader.service", "server.service", "server.socket"),
        *("common.service", "system.service", "user.service"),
    }


@needs_analyze
@pytest.mark.parametrize("settings", [{}, SNOWFLAKE], ids=["duckdb", "snowflake"])
@pytest.mark.parametrize("home", [SYSTEM_HOME, Path("/srv/my 50% spool;#é")], ids=["usual", "odd"])
def test_systemd_has_nothing_to_say_against_the_service_of_the_machine(
    settings: dict[str, Any], home: Path, program: str, tmp_path: Path
) -> None:
    text = unit(program, home=home, credentials=[Path("/etc/my keys 1%/a key.p8")], **settings)
    units = {UPLOADER: text, **server(program, home=home, listen=[LISTEN, "[::]:80"], **settings)}
    assert verify(tmp_path, units) == (0, "")


@needs_analyze
def test_systemd_has_nothing_to_say_against_the_service_of_a_user(program: str, tmp_path: Path) -> None:
    command = (program, "-P", "-m", "snowledger")
    home = Path("/home/me/my 50% spool")
    units = {UPLOADER: unit(*command, user=True, home=home), **server(*command, user=True, home=home)}
    assert verify(tmp_path, units, "--user") == (0, "")


@needs_analyze
def test_systemd_would_say_so(program: str, tmp_path: Path) -> None:
    text = unit(program).replace("ProtectSystem=", "ProtectSytem=")
    code, said = verify(tmp_path, {UPLOADER: text})
    assert code != 0
    assert "Unknown key" in said


@needs_analyze
@pytest.mark.parametrize("name", [UPLOADER, SERVER])
@pytest.mark.parametrize(
    "settings", [{}, SNOWFLAKE, {"monitor": "127.0.0.1:9465"}], ids=["duckdb", "snowflake", "monitored"]
)
def test_the_service_of_the_machine_is_hardly_exposed(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    text = unit("/bin/true", **settings) if name == UPLOADER else server("/bin/true", **settings)[SERVER]
    done = analyze(tmp_path, "security", "--offline=true", "--no-pager", units={name: text})
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE


def test_the_server_has_no_network_but_the_sockets_it_is_given_and_no_credential() -> None:
    for settings in ({}, SNOWFLAKE):
        text = server("/bin/true", **settings)[SERVER]
        assert "\nPrivateNetwork=yes\n" in text
        assert "\nRestrictAddressFamilies=AF_UNIX\n" in text
        assert f"\nSockets={SOCKET}\n" in text
        assert "Credential" not in text
        assert "SNOW_CONNECTION" not in text
    sockets = server("/bin/true", listen=["127.0.0.1:8787", "[::1]:8787"])[SOCKET]
    assert "\nListenStream=127.0.0.1:8787\nListenStream=[::1]:8787\n" in sockets


def test_a_server_that_a_person_has_to_mend_is_not_started_for_ever() -> None:
    text = server("/bin/true")[SERVER]
    limit, burst, pause = (
        re.search(rf"^{name}=([0-9]+)(min|s|)$", text, re.MULTILINE)
        for name in ("StartLimitIntervalSec", "StartLimitBurst", "RestartSec")
    )
    assert limit is not None
    assert burst is not None
    assert pause is not None
    assert re.search(r"^RestartPreventExitStatus=2 3 ", text, re.MULTILINE)
    # Those who connect start it anew; crashes alone do not use the limit up.
    assert int(limit[1]) * 60 / int(pause[1]) < int(burst[1])


@pytest.mark.parametrize(
    "listen",
    ["localhost:80", "8787", ":8787", "127.0.0.1", "127.0.0.1:0", "1.2.3.4:70000", "::1:8787", "/run/x", "a\nb:1"],
)
def test_the_server_listens_at_addresses_alone(listen: str) -> None:
    with pytest.raises(
        CommandError, match=r"--listen: .* is not accepted; accepted: IP:PORT such as 127\.0\.0\.1:8787"
    ):
        server("/bin/true", listen=[listen])


def test_a_file_needs_no_network_and_no_credential_and_snowflake_both() -> None:
    duckdb, snowflake = unit("/bin/true"), unit("/bin/true", **SNOWFLAKE)
    assert "\nPrivateNetwork=yes\n" in duckdb
    assert "LoadCredential" not in duckdb
    assert "PrivateNetwork" not in snowflake
    assert f"\nLoadCredential=connections.toml:{CONNECTIONS}\n" in snowflake
    assert "\nEnvironment=SNOWFLAKE_HOME=%d\n" in snowflake  # where systemd puts it
    monitored = unit("/bin/true", monitor="127.0.0.1:9465")
    assert "PrivateNetwork" not in monitored  # nobody could connect to it
    assert "\nIPAddressDeny=any\nIPAddressAllow=localhost\n" in monitored


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


def test_only_what_the_server_reads_and_what_differs_goes_into_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNOWLEDGER_CUSTOMER", "acme")
    monkeypatch.setenv("SNOWLEDGER_ALLOWED_CUSTOMERS", "gamma,beta")
    monkeypatch.setenv("SNOWLEDGER_QUERY_CONCURRENCY", "5")
    monkeypatch.setenv("SNOWLEDGER_CONTEXT_MAX_AGE_S", "60")
    monkeypatch.setenv("SNOWLEDGER_HTTP_MAX_CONNECTIONS", "10000")
    lines = server("/bin/true", home=Path("/srv/spool"), duckdb_path=Path("/srv/data/w.duckdb"))[SERVER].splitlines()
    assert [line for line in lines if line.startswith("Environment=")] == [
        "Environment=SNOWLEDGER_HOME=/srv/spool",
        "Environment=SNOWLEDGER_CUSTOMER=acme",
        "Environment=SNOWLEDGER_ALLOWED_CUSTOMERS=beta,gamma",
        "Environment=SNOWLEDGER_DUCKDB_PATH=/srv/data/w.duckdb",
        "Environment=SNOWLEDGER_CONTEXT_MAX_AGE_S=60.0",
        "Environment=SNOWLEDGER_HTTP_MAX_CONNECTIONS=10000",
    ]
    assert "LimitNOFILE=10256" in lines
    assert [line for line in lines if line.startswith("ReadWritePaths")] == ["ReadWritePaths=/srv/spool"]


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
        uploader_units(settings, ["/bin/true"], [Path("/etc/key.p8")], user=False)
    with pytest.raises(CommandError, match="accepted: a file without : in its name"):
        unit("/bin/true", credentials=[Path("/etc/a:b")], **SNOWFLAKE)
