"""``snowledger install systemd``: what is written where, what is refused, and what to do next."""

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.cli_process import CONFIGURING, Cli

from snowledger import claude_desktop, install_systemd
from snowledger.errors import CommandError
from snowledger.systemd_unit import SERVER, SOCKET, UPLOADER

pytestmark = pytest.mark.skipif(os.name == "nt", reason="systemd is Linux's")

NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that runs systemd, with snowledger where its services see it; where its units are."""
    for name in os.environ:
        if name.startswith(CONFIGURING):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    units = tmp_path / "units"
    units.mkdir()
    monkeypatch.setattr(install_systemd, "BOOTED", tmp_path)
    monkeypatch.setattr(install_systemd, "SYSTEM_UNITS", units)
    monkeypatch.setattr(install_systemd, "__file__", "/opt/snowledger/lib/install_systemd.py")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(claude_desktop, "command", lambda: ["/opt/snowledger/bin/snowledger"])
    return units


def test_dry_run_shows_the_unit_of_a_user_and_writes_nothing(cli: Cli) -> None:
    config = cli.folder / "config"
    done = cli.run("install", "systemd", "--user", "--dry-run", XDG_CONFIG_HOME=str(config))
    assert done.stdout.startswith(f"would write to {config / 'systemd' / 'user' / UPLOADER}:\n\n# Made by ")
    assert " upload\n" in done.stdout
    assert f"\nEnvironment=SNOWLEDGER_HOME={cli.home}\n" in done.stdout
    assert f"  systemctl --user enable --now {UPLOADER}\n" in done.stdout
    assert list(cli.folder.iterdir()) == []


def test_a_value_that_no_unit_can_hold_is_refused_in_one_line(cli: Cli) -> None:
    done = cli.run("install", "systemd", "--user", "--unit-dir", cli.folder, "--home", "two\nlines", code=1)
    (line,) = done.stderr.splitlines()
    assert "two\\nlines' is not accepted in a systemd unit" in line
    assert list(cli.folder.iterdir()) == []


def test_the_service_of_the_machine_has_a_spool_of_its_own(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install_systemd, "_user_exists", lambda: False)
    install_systemd.install_systemd()
    unit = (machine / UPLOADER).read_text(encoding="utf-8")
    assert "\nExecStart=/opt/snowledger/bin/snowledger upload\n" in unit
    assert "\nEnvironment=SNOWLEDGER_HOME=/var/lib/snowledger\n" in unit
    assert "\nUser=snowledger\n" in unit
    assert capsys.readouterr().out.splitlines() == [
        f"installed: {machine / UPLOADER}",
        "next:",
        "  useradd --system --home-dir /var/lib/snowledger --shell /usr/sbin/nologin snowledger",
        "  systemctl daemon-reload",
        f"  systemctl enable --now {UPLOADER}",
        f"  systemctl status {UPLOADER}",
        f"  journalctl -u {UPLOADER} -f",
    ]


def test_a_unit_is_written_once_and_never_over_another_unless_forced(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install = install_systemd.install_systemd
    unit = machine / UPLOADER
    install()
    wanted = unit.read_text(encoding="utf-8")
    assert stat.S_IMODE(unit.stat().st_mode) == 0o644
    capsys.readouterr()
    install()
    assert capsys.readouterr().out.startswith(f"already installed: {unit}\n")
    other = wanted.replace("UMask=0077", "UMask=0022\nEnvironment=TOKEN=secret-value")
    unit.write_text(other, encoding="utf-8")
    for dry_run in (False, True):
        with pytest.raises(CommandError) as refused:
            install(dry_run=dry_run)
        assert f"{unit} is another unit: Environment, UMask differ. " in str(refused.value)
        assert "--force" in str(refused.value)
        assert "secret-value" not in str(refused.value)
        assert unit.read_text(encoding="utf-8") == other
    install(force=True)
    assert unit.read_text(encoding="utf-8") == wanted
    assert list(machine.iterdir()) == [unit]


def test_it_says_what_has_to_be_made_before_the_service_can_start(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNOWLEDGER_WAREHOUSE", "snowflake")
    monkeypatch.setenv("SNOW_CONNECTION", "claude_logs")
    connections = tmp_path / "connections.toml"
    connections.touch()
    key = tmp_path / "a key.p8"
    install_systemd.install_systemd(home=Path("/srv/spool"), credential=[connections, key])
    said = capsys.readouterr().out
    assert "  install -d -o snowledger -m 700 /srv/spool\n" in said
    assert f"  install -D -m 600 'YOUR_A KEY.P8' '{key}'\n" in said
    assert "YOUR_CONNECTIONS" not in said  # it is there
    assert f"LoadCredential=a key.p8:{key}\n" in (machine / UPLOADER).read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [{"user": True}, {}, {"service": "server"}], ids=["user", "duckdb", "server"])
def test_a_credential_that_the_service_would_not_get_is_refused(machine: Path, options: dict[str, Any]) -> None:
    with pytest.raises(CommandError, match="--credential is for the uploader as a service of the machine"):
        install_systemd.install_systemd(credential=[Path("key.p8")], **options)
    assert list(machine.iterdir()) == []


@pytest.mark.parametrize(
    ("where", "hidden"),
    [
        ({"program": "/home/me/venv/bin/snowledger"}, "/home"),
        ({"base_prefix": "/root/.pyenv/versions/3.11.7"}, "/root"),
        ({"sources": "/home/me/clone/cli/snowledger/install_systemd.py"}, "/home"),
        ({"home": "/run/user/1000/spool"}, "/run/user"),
        ({"templates": "/home/me/templates"}, "/home"),
    ],
)
def test_what_the_service_of_the_machine_could_not_see_is_refused(
    where: dict[str, str], hidden: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "program" in where:
        monkeypatch.setattr(claude_desktop, "command", lambda: [where["program"]])
    monkeypatch.setattr(sys, "base_prefix", where.get("base_prefix", "/usr"))
    monkeypatch.setattr(install_systemd, "__file__", where.get("sources", "/opt/x.py"))
    monkeypatch.setenv("SNOWLEDGER_TEMPLATES_DIR", where.get("templates", ""))
    with pytest.raises(CommandError, match=f"does not see {hidden}, where .* is. Have .* elsewhere .* or use --user"):
        install_systemd.install_systemd(home=Path(where.get("home", "/srv/spool")))
    assert list(machine.iterdir()) == []


@pytest.mark.parametrize("user", [False, True])
def test_without_systemd_it_says_what_can_be_done(
    user: bool, machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_systemd, "BOOTED", tmp_path / "absent")
    with pytest.raises(CommandError, match=r"systemd does not run this machine .* --dry-run, .* --unit-dir"):
        install_systemd.install_systemd(user=user)
    assert sorted(tmp_path.iterdir()) == [machine]


def test_the_unit_of_a_user_goes_where_systemd_looks_for_it(machine: Path, tmp_path: Path) -> None:
    install_systemd.install_systemd(user=True)
    assert (tmp_path / "config" / "systemd" / "user" / UPLOADER).is_file()
    assert list(machine.iterdir()) == []


def test_without_root_it_says_so() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755 if os.geteuid() == 0 else 0o555)
        with unprivileged(), pytest.raises(CommandError, match="denied; run it as root, or use --user"):
            install_systemd._write(folder / UPLOADER, "text")
        assert list(folder.iterdir()) == []


def test_a_unit_for_another_machine_goes_into_a_folder_of_one_s_choice(cli: Cli) -> None:
    done = cli.run("install", "systemd", "--user", "--unit-dir", cli.folder)
    assert done.stdout.startswith(f"installed: {cli.folder / UPLOADER}\n")
    assert f"\nEnvironment=SNOWLEDGER_HOME={cli.home}\n" in (cli.folder / UPLOADER).read_text(encoding="utf-8")


def test_a_folder_that_is_not_there_is_named(cli: Cli) -> None:
    done = cli.run("install", "systemd", "--user", "--unit-dir", "absent", code=1)
    assert done.stderr == f"snowledger: cannot write {cli.folder / 'absent' / UPLOADER}: No such file or directory\n"


def test_the_server_is_a_service_with_a_socket_and_starts_no_uploader(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install_systemd.install_systemd("server", listen=["127.0.0.1:9000"])
    assert sorted(path.name for path in machine.iterdir()) == [SERVER, SOCKET]
    assert "\nExecStart=/opt/snowledger/bin/snowledger serve --http systemd --no-uploader\n" in (
        (machine / SERVER).read_text(encoding="utf-8")
    )
    assert "\nListenStream=127.0.0.1:9000\n" in (machine / SOCKET).read_text(encoding="utf-8")
    said = capsys.readouterr().out
    # The folder has to be there for the token.
    assert (
        "  install -d -o snowledger -m 700 /var/lib/snowledger\n  sudo -u snowledger /opt/snowledger/bin/snowledger "
        in said
    )
    assert " token add NAME --customer ID --home /var/lib/snowledger    # for each client\n" in said
    assert f"  systemctl enable --now {SOCKET} {SERVER}\n" in said


def test_no_unit_of_the_server_is_written_when_one_of_them_is_another(machine: Path) -> None:
    (machine / SOCKET).write_text("[Socket]\nListenStream=80\n", encoding="utf-8")
    with pytest.raises(CommandError, match=rf"{SOCKET} is another unit: .*ListenStream.* differ"):
        install_systemd.install_systemd("server")
    assert [path.name for path in machine.iterdir()] == [SOCKET]


def test_where_to_listen_is_the_servers_alone(machine: Path) -> None:
    with pytest.raises(CommandError, match="--listen is for the server"):
        install_systemd.install_systemd(listen=["127.0.0.1:9000"])
    assert list(machine.iterdir()) == []
