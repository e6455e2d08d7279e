"""No credential of Snowflake's is in anything that the real commands say or leave behind (fault 43)."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from tests.acceptance.ledger import Ledger, wait_until
from tests.command_server import SERVER
from tests.fake_snowflake.control import USER, FakeSnowflake
from tests.monitoring.scrape import get, scrape
from tests.uploader.snowflake_samples import prepare
from tests.uploader.uploader_samples import raw_line, sample_lines, seal

CANARY = "Canary-5e1f9a"
LOUD = {"SNOWLEDGER_LOG_LEVEL": "debug", "SNOWLEDGER_DEBUG": "1", "SNOWLEDGER_LOG_FORMAT": "json"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "snowflake"


@pytest.fixture
def ledger(fake_snowflake: FakeSnowflake, ledger: Ledger, home: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    prepare(fake_snowflake, home, monkeypatch)
    connection = {"SNOWFLAKE_HOME": str(home), "SNOW_CONNECTION": "fake", "SNOWLEDGER_WAREHOUSE": "snowflake"}
    ledger.environment |= {**connection, **LOUD}
    assert ledger.spool.home.is_dir()
    return ledger


def run(ledger: Ledger, *arguments: str) -> tuple[int, str]:
    """The exit code, and all that is said."""
    done = SERVER.run(arguments, ledger.folder, ledger.environment)
    return done.returncode, done.stdout + done.stderr


def left_behind(ledger: Ledger, home: Path) -> dict[str, bytes]:
    """Every file but those in which the user keeps the secrets."""
    paths = (path for path in ledger.folder.rglob("*") if path.is_file() and not path.is_relative_to(home))
    return {str(path): path.read_bytes() for path in paths}


def key_with_passphrase(home: Path) -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = home / "key.p8"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"another")))
    path.chmod(0o600)
    return {"password": None, "authenticator": "SNOWFLAKE_JWT", "private_key_file": str(path)} | {
        "private_key_file_pwd": CANARY
    }


WRONG: dict[str, Callable[[Path], dict[str, Any]]] = {
    "a password": lambda _home: {"password": CANARY},
    "a token": lambda _home: {"password": None, "authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": CANARY},
    "a passphrase": key_with_passphrase,
    "a key in place": lambda _home: {
        "password": None,
        "authenticator": "SNOWFLAKE_JWT",
        "private_key": f"-----BEGIN PRIVATE KEY-----{CANARY}-----END PRIVATE KEY-----",
    },
    "an address": lambda _home: {"host": f"me:{CANARY}@127.0.0.1", "port": 1},
    "a proxy": lambda _home: {
        "protocol": "https",
        "port": 1,
        "proxy_host": "127.0.0.1",
        "proxy_port": 1,
        "proxy_user": "me",
        "proxy_password": CANARY,
    },
}


@pytest.mark.parametrize("secret", WRONG)
def test_a_wrong_secret_is_nowhere(secret: str, fake_snowflake: FakeSnowflake, ledger: Ledger, home: Path) -> None:
    fake_snowflake.write_connections_toml(home, **WRONG[secret](home), login_timeout=1)
    assert CANARY in (home / "connections.toml").read_text()
    seal(ledger.spool, sample_lines(1))
    # Where nobody listens, an upload would be tried for half a minute.
    for arguments in (("doctor",),) if "port" in WRONG[secret](home) else (("ddl", "plan"), ("upload", "--once")):
        _, said = run(ledger, *arguments)
        assert "Snowflake" in said, said
        assert CANARY not in said
    for name, content in left_behind(ledger, home).items():
        assert CANARY.encode() not in content, name


def test_a_line_that_is_no_toml_is_not_quoted(ledger: Ledger, home: Path) -> None:
    (home / "connections.toml").write_text(f'[fake]\naccount = "fake"\npassword = "{CANARY}\n')
    code, said = run(ledger, "doctor")
    assert code == 1
    assert CANARY not in said


def test_a_daemon_that_cannot_log_in_tells_its_secret_to_nobody(
    fake_snowflake: FakeSnowflake, ledger: Ledger, home: Path
) -> None:
    fake_snowflake.write_connections_toml(home, password=CANARY)
    seal(ledger.spool, sample_lines(1))
    process = ledger.start("upload", "--monitor", "127.0.0.1:0")
    listening = re.compile(r"/metrics are on (127\.0\.0\.1:\d+)\"")
    wait_until(lambda: listening.search(ledger.errors), "the monitor listens")
    found = listening.search(ledger.errors)
    assert found is not None
    url = f"http://{found[1]}"
    wait_until(lambda: get(f"{url}/readyz").text.count("authentication needed"), "it has tried")
    shown = [
        get(f"{url}/readyz").text,
        scrape(url).text,
        ledger.run("status").stdout,
        ledger.run("status", "--json").stdout,
    ]
    assert scrape(url).value("snowledger_uploader_state", state="authentication needed") == 1
    arguments = psutil.Process(process.pid).cmdline()
    process.terminate()
    assert process.wait(15) == 0
    assert CANARY not in "".join([*shown, *arguments])
    for name, content in left_behind(ledger, home).items():
        assert CANARY.encode() not in content, name


def test_a_secret_that_works_is_nowhere_either(fake_snowflake: FakeSnowflake, ledger: Ledger, home: Path) -> None:
    fake_snowflake.allow(USER, secret=CANARY)
    fake_snowflake.write_connections_toml(home, password=CANARY)
    seal(ledger.spool, [*sample_lines(2), raw_line(9, b'{"number":}')])
    done = ledger.run("upload", "--once")
    assert "2 new" in done.stdout
    [letter] = ledger.dead_letters()
    said = [done.stdout, done.stderr, ledger.run("dead-letter", "show", letter.letter_id).stdout]
    # And when the connection breaks in the middle of work.
    fake_snowflake.fault("COPY", "error", code=3001, message=f"password={CANARY} rejected at https://me:{CANARY}@host/")
    seal(ledger.spool, sample_lines(1, 20), 5)
    said.append(run(ledger, "upload", "--once")[1])
    assert "rejected at https" in said[-1]
    assert CANARY not in "".join(said)
    for name, content in left_behind(ledger, home).items():
        assert CANARY.encode() not in content, name
