"""Whatever a settings file holds: the settings are read, or one line says what is wrong with them and where."""

import os
from pathlib import Path

import pytest
from tests.cli.cli_process import CONFIGURING
from tests.fuzz.fuzzing import Surface, fuzz

from snowledger.errors import SettingsError
from snowledger.settings import Settings, load_settings

SEEDS = [
    b"",
    b'# mine\ncustomer = "acme"\nallowed_customers = ["globex", "initech"]\nauto_uploader = false\n',
    b'home = "/spool"\nduckdb_path = "other.duckdb"\nlog_level = "debug"\nmax_queue_bytes = "50MiB"\n',
    b"context_max_age_s = 1.5\nquery_concurrency = 4\nquery_byte_cap = 1048576\n",
    b'warehouse = "snowflake"\nsnow_connection = "mine"\nsnowflake_schema = "S"\nbatch_age_s = 60\n',
]
TOKENS = [
    *(name.encode() for name in Settings.model_fields),
    *(
        b" = ",
        b"true",
        b"inf",
        b"nan",
        b"1e400",
        b"-1",
        b"0",
        b"[",
        b"]",
        b'""',
        b"'''",
        b"{}",
        b"1979-05-27T07:32:00Z",
    ),
    *(b"[table]", b"a.b.c = 1", b"[[x]]", b"[" * 200, b"~nobody/x", b"..", b"?", b"snowledger", b"TiB"),
]


def surface(file: Path) -> Surface:
    def run(data: bytes) -> str:
        file.write_bytes(data)
        try:
            load_settings()
        except SettingsError as error:
            said = str(error)
            assert str(file) in said
            assert len(said) < 2000
            return "refused"
        return "taken"

    return Surface(SEEDS, TOKENS, run)


def test_a_settings_file_is_read_or_refused_by_name(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(CONFIGURING)]:
        monkeypatch.delenv(name)
    file = scratch / "snowledger.toml"
    monkeypatch.setenv("SNOWLEDGER_CONFIG", str(file))
    outcomes = fuzz(surface(file))
    assert outcomes["refused"]
    assert outcomes["taken"]
