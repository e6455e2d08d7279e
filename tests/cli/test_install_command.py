"""``snowledger install claude-desktop``: our entry, and not one other byte's meaning changed."""

import json
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest
from tests.cli.cli_process import Cli

from snowledger import claude_desktop
from snowledger.errors import CommandError

OTHERS = {
    "zeta": {"theme": "dunkel ä"},
    "mcpServers": {"other": {"command": "/bin/other", "args": [], "env": {"TOKEN": "secret-value"}}},
    "alpha": [1, 2.5, None],
}


def test_makes_the_file_with_an_absolute_command_that_runs(cli: Cli) -> None:
    config = cli.folder / "Claude" / "claude_desktop_config.json"
    done = cli.run("install", "claude-desktop", "--config", config)
    entry = json.loads(config.read_text())["mcpServers"]["snowledger"]
    assert Path(entry["command"]).is_absolute()
    assert shutil.which(entry["command"]) is not None
    assert entry["args"][-1] == "serve"
    assert entry["env"] == {"SNOWLEDGER_HOME": str(cli.home), "SNOWLEDGER_CUSTOMER": "acme"}
    assert list(config.parent.iterdir()) == [config]
    assert "restart Claude Desktop" in done.stdout
    words = " ".join([entry["command"], *entry["args"]])
    assert f"--scope user snowledger -- {words}\n" in done.stdout


def test_defaults_need_no_environment(cli: Cli) -> None:
    cli.run("install", "claude-desktop", "--config", "c.json", SNOWLEDGER_HOME=None, SNOWLEDGER_CUSTOMER=None)
    assert "env" not in json.loads((cli.folder / "c.json").read_text())["mcpServers"]["snowledger"]


def test_keeps_everything_else_its_order_its_mode_and_a_copy(cli: Cli) -> None:
    config = cli.folder / "config.json"
    before = b"\xef\xbb\xbf" + json.dumps(OTHERS).encode()
    config.write_bytes(before)
    config.chmod(0o640)
    done = cli.run("install", "claude-desktop", "--config", config)
    after = json.loads(config.read_bytes())
    entry = after["mcpServers"].pop("snowledger")
    assert entry["args"][-1] == "serve"
    assert json.dumps(after) == json.dumps(OTHERS)
    (backup,) = cli.folder.glob("config.json.*.bak")
    assert backup.read_bytes() == before
    assert str(backup) in done.stdout
    if os.name != "nt":
        assert stat.S_IMODE(config.stat().st_mode) == 0o640


def test_a_second_time_it_is_already_installed(cli: Cli) -> None:
    cli.run("install", "claude-desktop", "--config", "c.json")
    before = (cli.folder / "c.json").read_bytes()
    done = cli.run("install", "claude-desktop", "--config", "c.json")
    assert done.stdout.startswith("already installed: ")
    assert (cli.folder / "c.json").read_bytes() == before
    assert list(cli.folder.glob("*.bak")) == []


def test_refuses_a_different_entry_and_replaces_it_only_when_forced(cli: Cli) -> None:
    config = cli.folder / "c.json"
    mine = {"command": "/old/snowledger", "args": ["serve"], "env": {"SNOWLEDGER_HOME": "secret-value"}}
    text = json.dumps({"mcpServers": {"snowledger": mine, "last": {}}})
    config.write_text(text)
    for extra in ([], ["--dry-run"]):
        done = cli.run("install", "claude-desktop", "--config", config, *extra, code=1)
        assert 'command is "/old/snowledger", it would be "' in done.stderr
        assert "env.SNOWLEDGER_HOME differs" in done.stderr
        assert "--force" in done.stderr
        assert "secret-value" not in done.stderr
        assert config.read_text() == text
    cli.run("install", "claude-desktop", "--config", config, "--name", "second", "--dry-run")
    cli.run("install", "claude-desktop", "--config", config, "--force")
    servers = json.loads(config.read_text())["mcpServers"]
    assert list(servers) == ["snowledger", "last"]
    assert servers["snowledger"]["command"] != "/old/snowledger"


def test_dry_run_shows_the_entry_alone_and_writes_nothing(cli: Cli) -> None:
    config = cli.folder / "c.json"
    config.write_text(json.dumps(OTHERS))
    done = cli.run("install", "claude-desktop", "--config", config, "--dry-run")
    assert f"would write to {config}:" in done.stdout
    assert '"snowledger": {' in done.stdout
    assert "secret-value" not in done.stdout
    assert config.read_text() == json.dumps(OTHERS)
    assert list(cli.folder.iterdir()) == [config]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{,}",
        b'{"a": 1, "a": 2}',
        b"[]",
        b'{"mcpServers": []}',
        b'{"mcpServers": null}',
        b'{"mcpServers": {}} // comment',
        b"\xff\xfe{\x00}\x00",
    ],
)
def test_what_is_no_configuration_is_refused(content: bytes, tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_bytes(content)
    with pytest.raises(CommandError, match="it was not touched"):
        claude_desktop.read(config)


def test_what_it_cannot_read_it_does_not_touch(cli: Cli) -> None:
    config = cli.folder / "c.json"
    content = b'{"mcpServers": {}} // comment'
    config.write_bytes(content)
    done = cli.run("install", "claude-desktop", "--config", config, "--force", code=1)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"snowledger: {config}: not valid JSON: ")
    assert line.endswith("; it was not touched, mend it first")
    assert config.read_bytes() == content
    assert list(cli.folder.iterdir()) == [config]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_stays_a_link(cli: Cli) -> None:
    (cli.folder / "dotfiles").mkdir()
    real = cli.folder / "dotfiles" / "claude.json"
    real.write_text("{}")
    link = cli.folder / "c.json"
    link.symlink_to(real)
    cli.run("install", "claude-desktop", "--config", link)
    assert link.is_symlink()
    assert "snowledger" in real.read_text()


def test_only_escapes_can_hold_a_lone_surrogate(cli: Cli) -> None:
    config = cli.folder / "c.json"
    config.write_bytes(b'{"odd": "\\ud800"}')
    cli.run("install", "claude-desktop", "--config", config)
    assert b'"odd": "\\ud800"' in config.read_bytes()


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("darwin", {}, "Library/Application Support/Claude"),
        ("win32", {"APPDATA": "roaming"}, "roaming/Claude"),
        ("win32", {"APPDATA": ""}, "AppData/Roaming/Claude"),
        ("linux", {"XDG_CONFIG_HOME": ""}, ".config/Claude"),
        ("linux", {"XDG_CONFIG_HOME": "xdg"}, "xdg/Claude"),
    ],
)
def test_each_platform_has_its_own_place(
    platform: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = claude_desktop.default_path()
    assert found.as_posix().endswith(f"{expected}/claude_desktop_config.json")
